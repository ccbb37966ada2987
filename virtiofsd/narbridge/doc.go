// Package narbridge serves a store as a Nix binary cache over HTTP, for reading
// and writing: nix copy puts closures in and gets them out.
//
//	GET       /                              a greeting
//	GET       /nix-cache-info                what kind of cache this is
//	GET, PUT  /HASH.narinfo                  what is known of a store path
//	GET, PUT  /nar/FILEHASH.nar[.COMPRESSION] a NAR by the hash of its file
//	GET       /nar/snix-castore/NODE?narsize=N  the NAR of a tree
//	GET       /nar/tvix-castore/NODE?narsize=N  the same
//	GET       /HASH.ls                       the listing of a store path
//	GET       /metrics                       counters for Prometheus
//
// HEAD is as GET, without the body. Source: spec/store.md 3.4; Nix,
// src/libstore/binary-cache-store.cc; the listings: nar-accessor.cc.
//
// A NAR that is put is taken apart into blobs and directories as it comes; the
// table of package uploads remembers which tree it was. The narinfo that
// follows gives the tree its store path. NARs are never kept: one that is asked
// for is made again from its tree (package narsection), so that any part of it
// can be sent.
//
// # What is believed
//
// Nothing that a client says. A NAR has to have the hash of its name, compressed
// or not. A narinfo has to have the hash of its URL in its store path, the hashes
// and sizes of the uploaded NAR and file, a content address that makes its store
// path, references that are in the store (or itself), and, if that is asked for,
// a signature by a trusted key; a store path that is there with other contents is
// not replaced. Each refusal is one line of text, with a status from 400 to 499;
// then there is no path info and no row in the table. Blobs of a refused NAR may
// stay, which nothing refers to: a garbage collection removes them.
//
// An input-addressed store path does not follow from its contents. Without
// --require-signature whoever may write can put anything under such a path that
// is not taken.
//
// # Why garbage collection takes nothing away
//
// While a NAR is put, and while a narinfo is, collections are kept out (gc.Hold).
// Between the two they are not, as the two may be days apart: the row in the
// table keeps nothing. So a narinfo is accepted only after the whole tree has
// been looked for, directory by directory and blob by blob, within the same hold
// in which its path info is stored: either the tree is there and stays, or the
// client is told to put the NAR again. HEAD of a NAR looks in the same way, so
// that its answer tells a client whether it may leave the upload out. Where
// collections cannot be kept out (a store behind a server) the server's own rule
// holds: what was stored or looked for within the grace of a collection stays,
// and looking is what this does.
//
// # Limits
//
// Connections, uploads at once, the size of a NAR, what a compressed one may grow
// to, headers, and the time for which a client may send or take nothing are all
// limited (Options). Memory: 8 MiB for each upload for contents, the directories
// of its tree while it is taken in, and what its decompressor takes: 128 MiB for
// zstd and xz at most, which is what the strongest levels take.
package narbridge
