package storefs

import (
	"context"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// RawFileSystem is the file system for go-fuse's own server, which serves one
// mount of it at /dev/fuse, by the same code as [Session] serves guests. ctx
// ends the look-ups that a request may wait for. Exit reports are not taken.
func (fs *FS) RawFileSystem(ctx context.Context) fuse.RawFileSystem {
	return newMount(ctx, fs, nil)
}
