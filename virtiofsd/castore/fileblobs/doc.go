// Package fileblobs is a blob service of plain files, one for each blob, so
// that a blob goes from the page cache straight to where it is needed.
//
// Layout below the directory that [Open] takes:
//
//	ab/abcd...             a blob, named by its digest in hexadecimal (64
//	                       characters), mode 0444, never changed
//	.staging/RANDOM/NUMBER contents on their way, of one process each
//
// # What a power loss leaves
//
// A name in ab/ promises the whole contents, whatever happens: a file is
// renamed to its name only after its contents are on the disk. Therefore
// nothing is renamed when a blob is closed. The blob stays in the staging
// directory, where only the process that wrote it finds it, until Flush: that
// writes the contents of all blobs closed before to the disk (fsync each if
// they are few, else one syncfs of the file system), renames them, and writes
// the names to the disk (likewise). A blob found to be there already may have
// been renamed by another process a moment ago: Flush writes its name to the
// disk too. So that the staging directory and the table of what is in it stay
// small, a flush also begins by itself every [maxStaged] blobs, while others are
// stored.
//
// After the first failed write of contents or names a store refuses further
// blobs: what a second fsync says after a failed one means nothing on Linux.
//
// # Processes
//
// Any number of processes may use one directory at once. Each holds a flock on
// its own staging directory; one that nobody holds belongs to a dead process
// and is removed by the next process that writes. The directory .staging itself
// is locked while staging directories are made and removed.
//
// # Removal
//
// The modification time of a blob is when it was last stored or found by Has,
// to a minute (castore.UsedSlack). Remove looks at it and removes the file while
// it holds an exclusive lock of the shard ab/; Has sets it under a shared one,
// so that a blob is either gone when Has looks or too young when Remove does.
// What keeps imports and garbage collections apart as a whole is a lock of the
// directory itself (castore.Guard). All locks are flocks of directories: they
// end with their process.
//
// # Limits and trust
//
// The directory must be on one local file system with flock, rename and, for
// errors of syncfs to be seen, Linux 5.8 or later. Whoever may write to the
// directory is trusted: contents are not hashed again when they are read.
package fileblobs
