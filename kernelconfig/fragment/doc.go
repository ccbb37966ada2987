// Package fragment holds the kernel options that storeboot's guests need, by
// purpose and architecture, each with the reason for it, and checks a
// configuration against them. The tables are the only place where an option is
// written down: checks, generated fragments, builds and explanations are made
// from them.
package fragment
