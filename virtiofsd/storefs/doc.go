// Package storefs is the store as a read-only file system in the FUSE protocol:
// the root lists the store paths, below each is its tree.
//
// An [FS] is the store with what is shared by all that mount it: open blobs and
// recently used directories, as guests are told of them. A [View] of it shows all
// of the store or some closures alone. A [Session] is one VMM's connection, and
// keeps nothing: inode numbers follow from the contents, so that a guest goes on
// when the daemon starts anew, and what a guest knows takes no memory of ours.
//
// What a store path holds never changes, so everything but the root is valid
// for ever in the guest's caches, names that do not exist included; the root may
// gain and lose names, and its listing is at most a second old. OPEN, OPENDIR,
// FLUSH, GETXATTR and others answer ENOSYS, by which the guest's kernel learns
// to do without them (spec/vmm.md, "What cuts round trips"); a [View] may show
// extended attributes all the same. All files belong to
// root, have the modes 0444, 0555 or 0777 (symlinks), and the time 1 s after the
// epoch, as Nix has them.
//
// Requests are not trusted: any inode number, offset and size may come.
package storefs
