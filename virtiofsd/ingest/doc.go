// Package ingest takes a file, symlink or directory of the local file system
// into a castore and computes the size and SHA-256 of its NAR, reading every
// byte once.
//
//	walker ── events in NAR order ──> assembler: NAR hash, directories
//	   └───── files ──> storers: blobs and their digests ──^
//
// The walker goes through the tree in NAR order, with a stack of its own, and
// reads files in chunks; a chunk goes to the assembler and to a storer and is
// used again when both are done with it. Chunks bound the memory for contents
// to 8 MiB. Beyond that memory grows with the entries of the directories that
// are open and, in the directory service, with the directories of the tree.
//
// Rules (spec/store.md 1.7): symlinks are not followed, not at the root either;
// a file is executable if its owner may execute it; owners, times, extended
// attributes and hard links are dropped; sockets, fifos and devices are
// refused.
//
// The tree is not trusted to stand still. Files and directories are opened
// without following symlinks and compared with what was seen before; one that
// changes while it is read is an error.
package ingest
