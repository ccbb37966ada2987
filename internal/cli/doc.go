// Package cli is what the commands of storeboot share in front of their own
// work: exit codes, one-line errors, signals and the version.
//
// Exit codes: 0 success, 1 failure, 2 wrong usage. A command that passes on
// the status of another program returns a [StatusError].
package cli
