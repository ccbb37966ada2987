// Package gc removes from a store what its roots do not need.
//
// Roots are store paths. What is needed is every root, all that it refers to,
// directly or not, and the directories and blobs of these; also every store
// path that was stored or imported again within a time of grace, with all of
// that. All else is removed.
//
// # Why nothing is lost
//
// Somebody who stores a path looks first whether its blobs are there, stores
// those that are not, then the directories, then the path info. Until the path
// info is there nothing refers to what he has stored or found. Two things keep
// a collection from taking it away:
//
//   - Programs that open the store themselves (import, copy) hold it
//     ([castore.Guard]) from before they look for the first path or blob until
//     the last path info, of a copied closure, is stored. A collection excludes
//     them from before it looks for what is needed until it has removed the last
//     thing. One waits for the other; no clock is involved. What a collection
//     finds is therefore either needed by a path info that it sees, or by nobody.
//   - Clients of a daemon cannot hold the store. For them every blob, directory
//     and path info has the time when it was last stored or found, and what is
//     younger than the grace is kept. Noting that time and removing what is too
//     old follow one another, item by item ([castore.Sweeper.Remove]): a client
//     either learns that a blob is not there, or it stays. A client that takes
//     longer than the grace from its first look to its path info may lose what
//     it stored; its path is then incomplete, which verify finds.
//
// Path infos go first, then directories, then blobs, each on the disk before
// the next: whatever stays behind when a collection is killed is needed by
// nobody and goes with the next one. What is needed is never touched.
//
// A needed directory or path info that cannot be read ends the collection
// before anything is removed, as what it needs is not known. A reference to a
// path that is not in the store is passed over.
//
// A VM or mount that uses a path does not keep it: what is in use has to be a
// root or to be needed by one.
//
// # Why not a bucket
//
// Blobs and directories in an object store, and rows in Bigtable, are not
// collected. Any number of programs write to a bucket without knowing of each
// other, snix and tvix among them, and there is nothing that all of them would
// lock. Somebody who stores a path looks whether its chunks are there and takes
// those that are for stored; he changes nothing by that, so that the age of a
// chunk says when it was first stored and not who is about to need it. However
// long the grace, a chunk older than it may have been found a moment ago, and a
// collection would take it from under a path that is stored a moment later. It
// would be safe if every writer wrote again what is older than an agreed time,
// and only we can do that. What is to stay is copied to another bucket instead,
// in which equal chunks are stored once too, and the old one is deleted whole.
//
// Memory: 32 bytes and the overhead of a map for each needed directory and blob.
package gc
