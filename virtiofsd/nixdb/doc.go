// Package nixdb reads the database of the local Nix installation: which store
// paths are valid, and what Nix knows of them.
//
// The file is db/db.sqlite in Nix's state directory ($NIX_STATE_DIR or
// /nix/var/nix), SQLite with the tables ValidPaths and Refs (schema 10, since
// Nix 2.0). It is opened read-only. A user who may not write beside it cannot
// use its write-ahead log; then the file is read as it is (immutable), without
// what Nix has not moved into it yet.
//
// The database is trusted as far as Nix itself trusts it; every value is parsed
// strictly.
package nixdb
