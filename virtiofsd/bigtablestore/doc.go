// Package bigtablestore keeps directories and path infos in Google Bigtable, as
// tvix and snix do (spec/store.md 2.5), so that either side reads what the other
// wrote.
//
// Address:
//
//	bigtable://INSTANCE?project_id=P&table_name=T&family_name=F
//	    [&channel_size=4][&timeout=4][&app_profile_id=default][&is_read_only=false]
//
// timeout is in seconds and bounds every request with its repeats. The table and
// its family must exist. Credentials are those that Google's tools use by
// default; BIGTABLE_EMULATOR_HOST names an emulator.
//
// # Rows
//
// The row key is the digest of a directory, 64 hexadecimal digits, or the hash
// of a store path, 40 of them; so one table may hold both. A row has one cell,
// in the configured family, whose column is named like the row and whose value
// is the canonical encoding, of at most 10 MiB ([maxValue]). A write removes
// older cells of its column in the same step: other readers expect one.
//
// A path info that is put again takes the place of the one before; in snix the
// first stays.
//
// # Durability
//
// Bigtable has a row for good when it says so. It knows no transactions over
// several rows: an upload of directories is written by heights, each when all
// below it is there, so that a directory that can be found has all below it too,
// whenever the upload ends.
//
// # Trust
//
// What is read is checked by digest (directories) or key (path infos).
package bigtablestore
