// Package binarycache is the client of one Nix binary cache: a directory of
// files, over HTTP, in the local file system or in S3.
//
//	nix-cache-info     what the cache is: StoreDir, Priority, WantMassQuery
//	HASH.narinfo       what it knows of a store path (package narinfo)
//	nar/FILEHASH.nar.zst  the NAR, at the URL that the narinfo says
//
// Addresses, with or without "nix+" in front:
//
//	http(s)://HOST[:PORT][/PATH]
//	file:///DIR
//	s3://BUCKET[/PREFIX]
//
// with the parameters of [ParseAddress]. Source: spec/store.md 2.2 and 3.4; Nix,
// src/libstore/{binary,http-binary,local-binary,s3-binary}-cache-store.cc.
//
// # Limits and trust
//
// A cache is not trusted. A narinfo is at most [narinfo.MaxSize] bytes, is for the
// path that was asked for, and has to be signed by a key of the address, or to
// name a content address that the NAR's hash proves; allow-unsigned drops that.
// A NAR ends with an error after the size that its narinfo says, a file too. What
// the NAR's hash is, is for whoever reads it to check. Decompression takes at
// most [narcodec.MaxWindow] bytes.
//
// Nothing waits for ever: a request ends after Timeout without an answer, a
// transfer after Stall in which less than [minProgress] bytes came. Requests that
// fail for a reason that may pass are repeated, with pauses that grow; a
// transfer that breaks goes on where it was, if the cache can.
package binarycache
