package storefs

import (
	"context"
	"log/slog"
	"sync/atomic"

	"storeboot/internal/bootproto"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

// Store is what is served.
type Store struct {
	Blobs       castore.BlobService
	Directories castore.DirectoryService
	PathInfos   pathinfo.Service
}

// Events are told of what a guest does. The calls come from the goroutines that
// handle requests and should return soon; nil functions are not called.
type Events struct {
	// Mounted: the guest has mounted the file system.
	Mounted func()
	// Report: the guest's root user sent an exit report. It is checked, and
	// says what the guest wants to say.
	Report func(*bootproto.Report)
}

// FS is a store that can be mounted by several guests at once.
type FS struct {
	store Store
	blobs *blobCache
	dirs  *dirCache
	log   *slog.Logger
	view  atomic.Pointer[View] // nil: the zero value
}

const (
	// openBlobs is how many blobs are kept open: with each one a descriptor.
	openBlobs = 512
	// directoryBytes bounds the directories that are kept in memory.
	directoryBytes = 64 << 20
)

// New makes a file system of store.
func New(store Store, log *slog.Logger) *FS {
	return &FS{
		store: store,
		blobs: newBlobCache(store.Blobs, openBlobs),
		dirs:  newDirCache(directoryBytes),
		log:   log,
	}
}

// Close closes the blobs that are open. No session may be in use.
func (fs *FS) Close() { fs.blobs.close() }

// directory returns a directory from the cache or the store.
func (fs *FS) directory(ctx context.Context, d castore.Digest) (*castore.Directory, error) {
	if dir := fs.dirs.get(d); dir != nil {
		return dir, nil
	}
	dir, err := fs.store.Directories.Get(ctx, d)
	if err != nil {
		return nil, err
	}
	fs.dirs.put(d, dir)
	return dir, nil
}
