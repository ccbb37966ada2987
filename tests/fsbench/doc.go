// Command fsbench measures virtio-fs daemons side by side, without a VM: ours,
// QEMU's C virtiofsd and Rust's, as far as they are there, serve the same tree to
// a front end that plays VMM and guest, in turn, as often as asked for.
//
//	go run ./tests/fsbench
//	go run ./tests/fsbench -rounds 5 -million -json > figures.json
//
// Beside them is the floor: for reads the same preads without a daemon, for
// single requests two eventfds, by which two threads wake each other.
//
// The tree, 1 GiB and some 100,000 files, is made in -dir and kept there if that
// is given. QEMU's daemon needs root; it is run as its manual says for speed
// (cache=always), and so is Rust's.
package main
