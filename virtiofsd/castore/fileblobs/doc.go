// Package fileblobs is a blob service of files on a local disk, so that a blob
// goes from the page cache straight to where it is needed.
//
// Layout below the directory that [Open] takes:
//
//	packs/                 small blobs that were stored together, many in a
//	                       file (package blobpack)
//	ab/abcd...             a blob alone, named by its digest in hexadecimal (64
//	                       characters), mode 0444, never changed: a large one,
//	                       or one of a few
//	ab/abcd....sums        sums of a blob larger than 1 MiB (package proof)
//	.staging/RANDOM/NUMBER contents on their way, of one process each
//
// Blobs of up to 256 KiB go into a pack, unless fewer than 32 are stored between
// two flushes. Earlier versions had one file for each blob; their stores are
// read and added to as they are. They do not see what is in packs.
//
// # What a power loss leaves
//
// A name promises the whole contents, whatever happens: a file is renamed to its
// name only after its contents are on the disk. Therefore nothing is renamed
// when a blob is closed. The blob stays in memory or the staging directory,
// where only the process that wrote it finds it, until Flush: that writes the
// pack to the disk and the contents of all plain blobs closed before (fsync each
// if they are few, else one syncfs of the file system), renames them, and writes
// the names to the disk (likewise). A blob found to be there already may have
// been renamed by another process a moment ago: Flush writes its name to the
// disk too. So that what is staged stays small, a flush also begins by itself
// every [maxStaged] plain blobs or every 256 MiB of a pack, while others are
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
// The modification time of a plain blob is when it was last stored or found by
// Has, to a minute (castore.UsedSlack); of a blob in a pack the pack's file of
// uses says it. Remove looks at it and removes the blob while it holds an
// exclusive lock of the shard ab/ and of packs/; Has sets it under a shared one,
// so that a blob is either gone when Has looks or too young when Remove does.
// The room of blobs in packs is free after Tidy, if they were a quarter of their
// pack.
// What keeps imports and garbage collections apart as a whole is a lock of the
// directory itself (castore.Guard). All locks are flocks of directories: they
// end with their process.
//
// # Damage
//
// Contents are compared with their digest, or a large blob part by part with its
// sums, when they are first read by a process or, with Prove, before they are
// taken from the file ([castore.ErrDamaged]). A bit that flips on the disk
// reaches nobody.
//
// # Limits and trust
//
// The directory must be on one local file system with flock, rename and, for
// errors of syncfs to be seen, Linux 5.8 or later. Whoever may write to the
// directory is trusted.
package fileblobs
