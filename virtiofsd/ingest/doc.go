// Package ingest takes trees into a castore and computes the size and SHA-256
// of their NAR: a file, symlink or directory of the local file system ([Path]),
// a NAR ([NAR]) or a tar archive ([Tar]). Every byte is read once.
//
//	walker ── events in NAR order ──> assembler: NAR hash, directories
//	   └───── files ──> storers: blobs and their digests ──^
//
// The walker, or the reader of a NAR, goes through the tree in NAR order, with a stack of its own, and
// reads files in chunks; a chunk goes to the assembler and to a storer and is
// used again when both are done with it. Chunks bound the memory for contents
// to 8 MiB. Beyond that memory grows with the entries of the directories that
// are open and, in the directory service, with the directories of the tree.
//
// A tar archive has no order: its files are stored as they come, its names are
// held until its end, and its NAR is made of what was stored.
//
// Rules (spec/store.md 1.7): symlinks are not followed, not at the root either;
// a file is executable if its owner may execute it; owners, times, extended
// attributes and hard links are dropped; sockets, fifos and devices are
// refused.
//
// The tree is not trusted to stand still. Files and directories are opened
// without following symlinks and compared with what was seen before; one that
// changes while it is read is an error.
//
// Archives are not trusted: names, targets, sizes and nesting are checked, and
// the memory that is used is bounded by a constant times what was read of names.
package ingest
