// Package objectstore keeps blobs and directories as objects in a bucket, in
// the layout of tvix and snix (spec/store.md 2.5), so that either side reads
// what the other wrote.
//
// Keys below the prefix of the bucket; HEX is a digest in 64 hexadecimal
// digits, SHARD the first four of them:
//
//	chunks/b3/SHARD/HEX  zstd of a part of a blob; HEX is the BLAKE3 of the part
//	blobs/b3/SHARD/HEX   the index of a blob of several chunks: a
//	                     StatBlobResponse that lists digests and sizes in order.
//	                     Of no bytes if the blob is one chunk or empty
//	dirs/b3/SHARD/HEX    a directory and all below it: one zstd frame over
//	                     records of a length (32 bits, big endian) and an
//	                     encoded directory, each after one that refers to it,
//	                     each once; HEX is the digest of the first, the root
//	inner/b3/SHARD/HEX   ours: the digest (32 bytes) of a root whose dirs/
//	                     object holds the directory HEX, which is no root
//
// # Blobs
//
// Contents are cut into chunks by [fastcdc], so that equal parts are stored
// once. Chunks are written before the index that names them, several at once. A
// blob of one chunk gets no index: readers look for its chunk first. The empty
// blob gets one, as snix asks for it there.
//
// An open blob reads the chunks that it is asked for (see Trust for the first
// time), reads ahead when it is asked in order, and shares a small cache of chunks with the other blobs of its
// service.
//
// # Directories
//
// An upload is one dirs/ object, which is all that snix looks at: it answers for
// roots alone. The inner/ objects, written before it, let this package answer
// for the directories within too: a lookup of one costs two requests, after
// which the whole object is in a cache that answers for all its directories. An
// inner directory that only snix has stored can be found as long as the cache
// holds its root. An inner/ object whose root is gone means that the directory
// is not there.
//
// # Trust
//
// Whoever may write to the bucket is trusted with nothing but what is there: a
// chunk is checked by its digest, a directory by its. An index has no digest of
// its own, and no digest of a part says anything about the whole. So the first
// read of a blob of several chunks reads all of them and compares what they make
// up with the digest of the blob; until then nothing is handed out. That this
// was done is remembered as long as the process runs, for the index that was
// there then, and it is known of blobs that the process has stored itself. From
// then on a read loads the chunks that it needs. What was loaded stays in the
// cache of chunks, or if that is too small for it, in an unlinked file in
// $TMPDIR until the blob is closed.
//
// # Limits
//
// A chunk has at most [maxChunk] bytes, an index [maxIndex], a directory
// [maxDirectory].
package objectstore
