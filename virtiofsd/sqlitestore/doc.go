// Package sqlitestore keeps directories and path infos in one SQLite database
// file, which any number of processes may use at once.
//
// The file is in WAL mode and every commit is synced (synchronous=FULL), so
// that what a Put returned from survives a power loss. An upload of
// directories is one transaction: a tree is in the file whole or not at all.
//
// Format: application_id 0x53746f72 ("Stor"), user_version 2, and
//
//	directory (digest BLOB PRIMARY KEY, encoded BLOB, used INTEGER)  castore.v1 Directory
//	path_info (hash BLOB PRIMARY KEY, encoded BLOB, used INTEGER)    store.v1 PathInfo
//
// The keys are 32 and 20 bytes; used is when a row was last put, in seconds
// since 1970, for garbage collection. Version 1 lacked it, and is upgraded when
// it is opened. Values are checked when they are read: a directory by its
// digest, a path info by its rules. A file with another application_id or a
// later user_version is refused.
//
// A new file is made beside its place and renamed, under a lock of its
// directory: nobody sees a file without its tables. The file system must be a
// local one, as WAL mode shares memory between the processes.
//
// A file that cannot be written to is read as it is, with the changes that
// another process is making to it; see connectReadOnly. Only what a killed
// process has left in a -wal file without its -shm is out of reach there.
package sqlitestore
