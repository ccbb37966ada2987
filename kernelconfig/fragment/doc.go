// Package fragment holds the kernel options that storeboot's guests need, each
// with the reason for it, and checks a configuration against them.
package fragment
