// Package castorenar makes Nix archives (package nar) of trees of a castore.
//
// A tree and its NAR say the same, so that a store path that lies in a castore
// needs no NAR kept: it is made again, byte for byte, whenever somebody asks.
//
// # Limits and trust
//
// The services are trusted to return what belongs to a digest; sizes that a
// parent says are checked. Memory is the entries of the directories from the
// root to where the writer is, and one buffer of [bufferSize]. A tree may be far
// larger than its directories, as one directory may be in it many times: who
// takes trees from strangers bounds the size of the root node ([castore.Directory.Size]), or w.
package castorenar
