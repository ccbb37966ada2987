package storefs

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

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

// Options are what [New] may be told. The zero value is what most want.
type Options struct {
	// Log is told of errors of the store. nil: nothing is.
	Log *slog.Logger
	// ReadTimeout is how long one request may wait for the store until it fails
	// (EIO); 0: two minutes, after which Linux reports a task as hung.
	ReadTimeout time.Duration
	// DirectoryBytes bounds the directories that are kept in memory; 0: 64 MiB.
	DirectoryBytes int
	// OpenBlobs is how many blobs are kept open, with each one a descriptor if
	// it is a file; 0: 512.
	OpenBlobs int
}

// FS is a store that can be mounted by several guests at once.
type FS struct {
	*shared
	shown *shown
	stats *Stats // of this view
}

// shared is what all views of a store have in common.
type shared struct {
	store  Store
	blobs  *blobCache
	dirs   *dirCache
	trees  *treeTable
	lister *lister
	log    *slog.Logger
	wait   time.Duration
	caches *Caches
	// asides bounds the reads that wait, and buffers are for them.
	asides  chan struct{}
	buffers sync.Pool
	ctx     context.Context // done when the file system is closed
	cancel  context.CancelFunc
}

// errStalled is why a request fails that has waited for the store too long.
var errStalled = errors.New("the store did not answer in time (--read-timeout)")

// New makes a file system of store, in the view that is the zero value.
func New(store Store, o Options) *FS {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.ReadTimeout <= 0 {
		o.ReadTimeout = 2 * time.Minute
	}
	if o.DirectoryBytes <= 0 {
		o.DirectoryBytes = 64 << 20
	}
	if o.OpenBlobs <= 0 {
		o.OpenBlobs = 512
	}
	caches := &Caches{}
	trees := newTreeTable(store.PathInfos)
	s := &shared{
		store:  store,
		trees:  trees,
		lister: &lister{trees: trees, begin: time.Now()},
		log:    o.Log,
		wait:   o.ReadTimeout,
		caches: caches,
		asides: make(chan struct{}, maxAsides),
	}
	s.buffers.New = func() any { b := make([]byte, maxIO); return &b }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.blobs = newBlobCache(s.ctx, store.Blobs, o.OpenBlobs, o.ReadTimeout, caches)
	s.dirs = newDirCache(s.ctx, store.Directories, o.DirectoryBytes, o.ReadTimeout, caches)
	return &FS{shared: s, shown: &shown{View: View{RootTTL: rootTTL, Digest: castore.Digest.String}}, stats: &Stats{}}
}

// Close ends what waits for the store and closes the blobs that are open. No
// session may be in use.
func (fs *FS) Close() {
	fs.cancel()
	fs.blobs.close()
}

// Stats are the requests of the guests that use this view.
func (fs *FS) Stats() *Stats { return fs.stats }

// Caches are the figures of the caches, which all views share.
func (fs *FS) Caches() *Caches { return fs.caches }
