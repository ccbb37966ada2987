// Package storebench makes the large trees and stores that the benchmarks of
// the store, which are its tests, work on: 20,000 small files, one file of
// 1 GiB, a store of a million paths. Tests of other packages may use it too.
//
// What it makes follows from its arguments alone. The contents of files are
// random, so that nothing in them compresses or is stored once for two.
//
// The directory of the benchmarks is $STOREBOOT_BENCH_DIR, in which the store
// of a million paths is kept for the next run, or else a temporary one. It
// decides what is measured: a disk with its syncs, or memory on a tmpfs.
package storebench
