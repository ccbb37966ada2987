// Package nar reads and writes Nix archives.
//
// A NAR is one tree of directories, files and symlinks in one canonical byte
// string, so that its SHA-256 names the tree. All strings stand behind their
// length, 8 bytes little endian, and are padded with zeros to a multiple of 8:
//
//	archive   = "nix-archive-1" node
//	node      = "(" "type" ( file | symlink | directory ) ")"
//	file      = "regular" [ "executable" "" ] "contents" BYTES
//	symlink   = "symlink" "target" TARGET
//	directory = "directory" ( "entry" "(" "name" NAME "node" node ")" )*
//
// The names in a directory ascend by their bytes. Source: E. Dolstra, "The
// Purely Functional Software Deployment Model" (2006), figure 5.2; the Nix
// manual, "Nix Archive (NAR) format"; spec/store.md 1.7.
//
// The writer refuses what would not be a NAR: names that are empty, ".", "..",
// longer than 255 bytes, not ascending, or with a slash or NUL; a file of
// another length than announced; a tree that is not complete. It holds one name
// for each open directory and a buffer of 32 KiB.
//
// The reader takes nothing that the writer would not write, and nothing behind
// the archive. Archives are not trusted: no length in one makes it use memory.
package nar
