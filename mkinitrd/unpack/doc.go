// Package unpack is a model of the kernel's initramfs unpacker: given an image
// and the compressions that a kernel has, it says which file system the kernel
// boots with, what it prints, and what it loses.
//
// The rules are those of init/initramfs.c and lib/decompress_*.c, read at Linux
// 6.1; tests/unpack_test.go boots broken images and holds the model to what a
// kernel made of them. The kernel is lenient in ways that no tool for archives
// is, and says nothing about most of it:
//
//   - An entry whose directory does not exist is dropped without a message.
//   - An archive that is not compressed may end anywhere; a file that is cut
//     off is filled up with zero bytes.
//   - The first thing it cannot read ends the unpacking, with one line on the
//     console, and it boots with the files that it has by then. Without /init
//     among them it looks for a root file system, and panics.
//   - It follows symbolic links that earlier entries made, and replaces what
//     is there, but not a directory that has something in it.
//   - Names of one file (hard links) are joined by device, inode and type
//     until an end mark, across archives.
//   - The checksum of gzip is not looked at.
//
// [Run] reads the image once and writes the data of the files to a [Spool], so
// that memory stays bounded: an image has at most a million entries, and data
// beyond 64 MiB lies in a temporary file.
package unpack
