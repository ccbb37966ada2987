// Package fastcdc cuts a stream of bytes into chunks at places that depend on
// the bytes alone, so that streams with common parts have chunks in common.
//
// The algorithm is FastCDC as of 2020 (W. Xia et al., "The Design of Fast
// Content-Defined Chunking for Data Deduplication Based Storage Systems") with
// a 64-bit gear hash that takes in two bytes a round, and normalisation level
// 1. Numbers and table are those of the tvix and snix stores (spec/store.md
// 1.6): where they cut, this package cuts.
//
// A cut is a decision over the bytes up to the longest chunk, so it depends
// neither on how a caller splits its writes nor on what follows. No place of a
// cut is wrong: readers of a store take any list of chunks. Cutting in the same
// places means that equal contents are stored once.
//
// A [Splitter] holds at most two chunks of the longest size.
package fastcdc
