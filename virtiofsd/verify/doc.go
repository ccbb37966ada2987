// Package verify reads a store again and says what of it is not what it was.
//
// Every path info is parsed, every directory and blob is hashed, and of every
// store path the NAR is made and compared with the size and hash in its path
// info. Each blob is read once for each store path that it is in, by both hashes
// at once the first time. Where the store can list what it holds
// ([castore.Sweeper]) blobs and directories that no store path needs are checked
// too: the next import would take them for good.
//
// Store paths are checked in parallel, one CPU each; when there are fewer left
// than CPUs, the others hash the blobs of those, which are read once more then.
// What is found is told by
// digest, with the store paths that need it. What cannot be read counts as
// damaged; only the end of the context ends the work.
//
// The store is held ([castore.Guard]) meanwhile: what a garbage collection
// removes would look damaged.
package verify
