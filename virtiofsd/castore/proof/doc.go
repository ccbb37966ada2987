// Package proof compares contents that are read from files with what they were
// when they were stored, so that a bit that flipped on the disk reaches nobody.
//
// Contents of up to [WholeSize] are hashed as a whole when they are first read.
// Larger ones have [Sums]: a 64-bit xxHash (https://xxhash.com) of each group
// of [GroupSize] bytes, taken when the contents went by to be hashed, so that a
// read anywhere in a large file costs reading and summing the groups it touches
// and no more. What was compared once is not compared again by the same
// process: what is in the page cache is in memory, which is trusted.
//
// # File of sums
//
//	magic   16 bytes
//	digest  32 bytes, the BLAKE3 of the contents
//	size    uint64, little endian, of the contents in bytes
//	sums    uint64, little endian, one for each group
//	sum     uint64, little endian, xxHash of all before
//
// Sums find accidents. They do not stop one who may write to the store: he is
// trusted, and [storeboot/virtiofsd/verify] hashes all for those who are not
// sure.
package proof
