// Package newc writes and reads the archives of the Linux initramfs: cpio in
// its "new ASCII" form, one or several archives (segments) after each other.
//
// An entry is
//
//	110 bytes   magic 070701 (070702: with checksums), then 13 fields of 8
//	            hexadecimal digits: ino, mode, uid, gid, nlink, mtime,
//	            filesize, devmajor, devminor, rdevmajor, rdevminor,
//	            namesize (with the NUL), check
//	namesize    the name, NUL terminated, relative to the root
//	0 to 3      zero bytes, so that the data begins at a multiple of 4
//	filesize    the data: a regular file's bytes, a symbolic link's target
//	0 to 3      zero bytes
//
// and a segment ends with an entry named TRAILER!!!. The format is described in
// the kernel's Documentation/driver-api/early-userspace/buffer-format.rst; what
// the kernel makes of it is in init/initramfs.c (read at 6.1).
//
// Rules of the kernel that the [Writer] holds, since the kernel breaks them
// silently: a name has at most 4095 bytes, so has a link's target; data belongs
// to regular files and symbolic links alone; names of one file share device,
// inode, type and a link count of at least 2, and one of them carries the data.
// The caller sees to the order: a directory stands before what is in it, or the
// kernel drops the latter without a message.
//
// Limits: 32 bits for every number, so no file of 4 GiB or more, and no time
// after 2106. The [Reader] trusts nothing that it reads, holds one name and one
// entry's bounds in memory, and is stricter than the kernel in two things: a
// segment without its trailer is truncated, and digits have to be digits.
package newc
