// Package narinfo is the text that a Nix binary cache says of a store path:
// which NAR holds it, how long and with which hash, and what it refers to.
//
//	StorePath: /nix/store/HASH-NAME
//	URL: nar/FILEHASH.nar.xz            relative to the cache
//	Compression: xz                     bzip2 if the line is missing
//	FileHash: sha256:NIXBASE32          of what is at URL
//	FileSize: BYTES
//	NarHash: sha256:NIXBASE32           of the NAR in it
//	NarSize: BYTES
//	References: HASH-NAME HASH-NAME     base names
//	Deriver: HASH-NAME.drv
//	Sig: KEY:BASE64                     any number of them
//	CA: fixed:r:sha256:NIXBASE32
//
// Source: spec/store.md 3.4; Nix, src/libstore/nar-info.cc. What caches are known
// to write otherwise is taken: hashes in hexadecimal or base64 (SRI), a missing
// References line, references in any order, an unknown deriver, unknown keys.
// A narinfo comes from the network and is not trusted: it is bounded, each
// field is checked, and none may come twice but Sig.
package narinfo
