// Package bootproto is all that host and guest, and the programs on the host,
// must agree on: kernel parameters, the boot and run specifications in the
// initramfs, the exit report, and the events of the store daemon.
//
// A kernel parameter of ours is spelt tvix.NAME, snix.NAME or storeboot.NAME;
// the three mean the same. The specifications are JSON files in the initramfs,
// versioned and strictly parsed. The exit report is JSON too, sent by a FUSE
// ioctl on the root of the store mount.
//
// The package is linked into init: it imports nothing but the standard
// library's small packages.
package bootproto
