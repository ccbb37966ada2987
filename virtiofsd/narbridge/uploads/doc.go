// Package uploads remembers which tree an uploaded NAR is, between the upload of
// the NAR and that of the narinfo that gives it a store path.
//
// Nix uploads the NAR under the hash of the file (compressed or not), then the
// narinfo, which names the NAR by both hashes. The table is an SQLite file, so
// that neither a restart of the bridge between the two nor several bridges on
// one store make a difference:
//
//	upload (file BLOB PRIMARY KEY,      SHA-256 of the file that was uploaded
//	        file_size INTEGER,          its length in bytes
//	        nar BLOB,                   SHA-256 of the NAR in it
//	        nar_size INTEGER,           its length in bytes
//	        node BLOB,                  castore.v1 Entry without a name
//	        used INTEGER)               seconds since 1970
//
// with the application_id 0x53746275 ("Stbu") and user_version 1. Of an
// uncompressed NAR both hashes are the same.
//
// What a row says is a claim about the past: the tree may have been collected
// since. Whoever uses a row looks whether the tree is still there, and keeps
// collections out meanwhile.
//
// A commit survives the death of the process; the last ones before a power loss
// may be gone (synchronous=NORMAL), and the client then uploads the NAR again.
// Rows that are old, or more than there may be, are removed, the oldest first.
package uploads
