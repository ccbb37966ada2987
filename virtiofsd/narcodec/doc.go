// Package narcodec is the compressions of the NARs of Nix binary caches.
//
//	name   suffix  begins with        written here
//	none                              yes
//	zstd   .zst    28 b5 2f fd        yes
//	xz     .xz     fd "7zXZ" 00       yes
//	gzip   .gz     1f 8b 08           yes
//	bzip2  .bz2    "BZh"
//	br     .br
//	lz4    .lz4    04 22 4d 18
//	lzip   .lzip   "LZIP"
//	lzma
//
// The name is that of a narinfo's Compression and of Content-Encoding, the suffix
// what follows ".nar" (Nix, src/libstore/binary-cache-store.cc and
// src/libutil/compression.cc). Nix writes .nar alone for gzip and lzma.
//
// What is read is not trusted: a stream takes [MaxWindow] bytes and some MiB at
// most, whatever it says of itself. How long the contents may be is for the
// caller to limit.
package narcodec
