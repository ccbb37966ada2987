// Package blobpack keeps small blobs in packs, files of many: making a file for
// each one takes several times as long as reading and hashing what is in it.
// Reads still come straight from the page cache, from the middle of a file.
//
// # Layout of a pack
//
//	contents of the blobs, one after the other
//	index    one entry of 48 bytes for each blob, ascending by digest:
//	         digest 32, offset uint64, size uint64
//	footer   64 bytes: magic 16, number of blobs uint64, offset of the index
//	         uint64, BLAKE3 of the index 32
//
// Numbers are little endian. A pack is written, then brought to the disk, and
// only then renamed into the directory of packs ([Set.Add]); it is never changed.
//
// Beside NAME.pack lies NAME.used with a uint32 for each entry: when the blob was
// last stored or found, in seconds since 1970; [removed] says that it is not
// there any more; 0, or nothing, says that only the time of the pack is known.
// This file is changed in place and never waited for: after a power loss it may
// say 0 where it said something else, so that a removed blob is there again and
// goes with the next collection.
//
// # Lookups
//
// Digests are spread evenly, so that a place in an index can be guessed: a
// lookup in a pack costs one read or two, and after a few lookups the index of a
// pack that is not large is kept in memory. So that there are few packs, those
// of like size are merged when there are eight of them ([Set.Merge]). A pack is
// merged alone when a quarter of it was removed. Merging copies contents
// verbatim and unlinks the old packs when the new one is on the disk; who has an
// old one open goes on with it.
//
// # Locks
//
// The directory of packs is locked shared (flock) while a time of use is noted,
// and exclusively while blobs are removed and packs replaced. Only one process
// merges, the one that has locked the directory .merging in it.
//
// # Trust
//
// Contents are compared with their digest at their first read
// ([storeboot/virtiofsd/castore/proof]); so an index that lies is found too. A
// pack that cannot be opened is an error of every lookup that finds nothing
// elsewhere: its blobs are not taken for absent.
package blobpack
