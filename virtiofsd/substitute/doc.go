// Package substitute brings store paths into a store when they are asked for,
// out of Nix binary caches (package binarycache).
//
// A [Service] is a [pathinfo.Service] in front of the one of the store. What the
// store has costs no request. What it lacks is looked for in the caches, in the
// order of their priorities; the first that has it and gives what it promises is
// taken: its NAR is ingested as it comes, its size, hash and content address are
// compared with the narinfo, and only then, with all of it on the disk, the path
// info is put into the store. Who asks for a path meanwhile waits for the same
// download, which ends early when all who wait have gone away (the end of their
// contexts), but not when they only wait no longer (Options.Wait): a guest that
// was told EIO finds it there when it tries again. That a path is in no cache is
// remembered for a while.
//
// With Prefetch, the references of each path that is asked for are fetched in
// the background, those of the first first, then theirs. [Service.Fetch] fetches
// whole closures, each path after those that it refers to.
//
// # Castore
//
// The URL of a NAR may say what the NAR holds (narinfo.CastoreURL). If the
// address of the cache names services that hold that, its directories and the
// blobs that the store lacks are copied from there, and the NAR that they make
// is compared with the narinfo: the signature is one of the NAR's hash. If
// anything is wrong with that, the NAR is downloaded as always. A cache with
// castore-lazy is trusted to name the right root: then nothing is copied, and
// the tree is not in the store but read where it is.
//
// # Limits and trust
//
// Caches are not trusted; see package binarycache for what is checked of
// narinfos. A path takes PathTimeout at most. Of demands [demandSlots] are worked
// on at once, of the prefetch's [prefetchSlots]; each takes the memory of a
// decompression and of an ingestion. A cache that cannot be reached is not
// asked for [downTime].
package substitute
