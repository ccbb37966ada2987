package storefs

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"storeboot/virtiofsd/castore"
)

// forever is how long what cannot change is valid.
const forever = 10 * 365 * 24 * time.Hour

const (
	blockSize = 4096
	// storeTime is the time of everything in a Nix store, in seconds.
	storeTime = 1
)

func mode(n castore.Node) uint32 {
	switch {
	case n.Kind == castore.KindDirectory:
		return syscall.S_IFDIR | 0o555
	case n.Kind == castore.KindSymlink:
		return syscall.S_IFLNK | 0o777
	case n.Executable:
		return syscall.S_IFREG | 0o555
	}
	return syscall.S_IFREG | 0o444
}

func fillAttr(a *fuse.Attr, id uint64, n castore.Node, seconds uint64) {
	*a = fuse.Attr{
		Ino: id, Mode: mode(n), Nlink: 1, Blksize: blockSize,
		Atime: seconds, Mtime: seconds, Ctime: seconds,
	}
	switch n.Kind {
	case castore.KindFile:
		a.Size = n.Size
	case castore.KindSymlink:
		a.Size = uint64(len(n.Target))
	case castore.KindDirectory:
		a.Size = blockSize
	}
	a.Blocks = (a.Size + blockSize - 1) / blockSize * (blockSize / 512)
}

// fillEntry tells the guest of an inode for as long as entry says; what an inode
// is never changes.
func fillEntry(out *fuse.EntryOut, i *inode, entry time.Duration) {
	out.NodeId = i.id
	fillAttr(&out.Attr, i.id, i.node, storeTime)
	out.SetEntryTimeout(entry)
	out.SetAttrTimeout(forever)
}
