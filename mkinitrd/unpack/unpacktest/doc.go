// Package unpacktest has images that are broken in all the ways that were found
// in real ones, or that the kernel's unpacker has a rule for. The tests of the
// model use them, and those that boot them.
package unpacktest
