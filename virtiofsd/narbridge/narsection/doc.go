// Package narsection gives any part of the NAR of a tree in a castore, without
// the parts before it.
//
// The length of the NAR of a directory follows from names and sizes alone, so
// that no file is read to find it. A [View] holds the length for each distinct
// directory of its tree; with these the entry in which a part begins is found by
// adding lengths up, directory by directory, and what is before it is neither
// rendered nor read:
//
//	offset 0     24                                            Size
//	       magic ( type directory [entry ...] [entry ...] ... )
//	                               skipped     entered, as the part begins in it
//
// Format of a NAR: package nar, which is the reference for this one in the tests.
//
// Memory: 40 bytes and the overhead of a map for each distinct directory, at
// most [MaxDirectories]; while a part is written the entries of the directories
// from the root to where the writer is, and a buffer. Trees are trusted to be
// what their digests say, which the services check; sizes that a parent says are
// compared with what is there.
package narsection
