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

// fillAttr sets the attributes of a node. The number of links is 1 for
// directories too, by which programs know that it does not count them.
func fillAttr(a *fuse.Attr, id uint64, n castore.Node) {
	*a = fuse.Attr{
		Ino: id, Mode: mode(n), Nlink: 1, Blksize: blockSize,
		Atime: storeTime, Mtime: storeTime, Ctime: storeTime,
	}
	switch n.Kind {
	case castore.KindFile:
		a.Size = n.Size
	case castore.KindSymlink:
		a.Size = uint64(len(n.Target))
	case castore.KindDirectory:
		a.Size = blockSize
	}
	a.Blocks = a.Size/blockSize*(blockSize/512) + (a.Size%blockSize+blockSize-1)/blockSize*(blockSize/512)
}
