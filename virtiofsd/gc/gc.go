package gc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

// Store is the store that is collected.
type Store struct {
	Blobs       castore.BlobService
	Directories castore.DirectoryService
	PathInfos   pathinfo.Service
}

// Options say what to keep.
type Options struct {
	// Roots have to be in the store.
	Roots []storepath.StorePath
	// NamedRoots, unless nil, is called when the store is locked, so that no
	// root is made meanwhile. Paths of its that are not in the store are passed
	// over; an error of its ends the collection.
	NamedRoots func() ([]storepath.StorePath, error)
	// Grace is for how long something stays after its last use, at least.
	// With 0 nothing stays that no root needs.
	Grace time.Duration
	// Wait is for how long the end of imports and copies is waited for; 0 is
	// for ever.
	Wait time.Duration
	// DryRun removes nothing and says what would be.
	DryRun bool
}

// Result is what was removed, and what stays. After an error it is what was
// removed until then.
type Result struct {
	Paths       []Removed
	Directories int
	Blobs       int
	BlobBytes   int64 // of the removed blobs
	KeptPaths   int
	KeptBlobs   int
}

// Removed is a removed path info. Path is nil if it could not be read.
type Removed struct {
	Hash storepath.Hash
	Path *storepath.StorePath
}

// batch is how many items are removed at once: a transaction of the database
// is short enough for others to get their turn.
const batch = 1000

// ErrUnsupported is what Collect returns, wrapped, for a store that cannot list
// and remove what it holds, or not without harm to others.
var ErrUnsupported = errors.New("only a store of files can be collected (blobs file:, directories and path infos sqlite:): if it is behind a daemon, run gc where the files are; of a bucket or table, copy what is to stay to another one with 'virtiofsd copy --to-...' and delete the old one")

// Hold keeps collections out of the store until release is called, which may be
// done more than once. Where collections cannot be kept out it does nothing.
func Hold(ctx context.Context, blobs castore.BlobService) (release func(), err error) {
	guard, ok := blobs.(castore.Guard)
	if !ok {
		return func() {}, nil
	}
	release, err = guard.Hold(ctx)
	if err != nil {
		return nil, fmt.Errorf("wait for a garbage collection: %w", err)
	}
	return release, nil
}

// collector is one collection.
type collector struct {
	store  Store
	o      Options
	blobs  castore.Sweeper
	dirs   castore.Sweeper
	infos  pathinfo.Sweeper
	before time.Time // what was not used since may go
	needed needed
	result Result
}

// Collect removes what is not needed. It waits until nobody holds the store, or
// ctx is done. A root that is not in the store is an error.
func Collect(ctx context.Context, s Store, o Options) (Result, error) {
	c := &collector{store: s, o: o}
	var ok [4]bool
	var guard castore.Guard
	c.blobs, ok[0] = s.Blobs.(castore.Sweeper)
	c.dirs, ok[1] = s.Directories.(castore.Sweeper)
	c.infos, ok[2] = s.PathInfos.(pathinfo.Sweeper)
	guard, ok[3] = s.Blobs.(castore.Guard)
	if ok != [4]bool{true, true, true, true} {
		return Result{}, ErrUnsupported
	}
	release, err := exclude(ctx, guard, o.Wait)
	if err != nil {
		return Result{}, fmt.Errorf("lock the store: %w", err)
	}
	defer release()
	c.before = time.Unix(math.MaxInt32*1000, 0) // always in the future
	if o.Grace > 0 {
		c.before = time.Now().Add(-o.Grace - castore.UsedSlack)
	}
	err = c.run(ctx)
	return c.result, err
}

// exclude waits for the lock, but not for ever.
func exclude(ctx context.Context, guard castore.Guard, wait time.Duration) (release func(), err error) {
	waiting := ctx
	if wait > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	release, err = guard.Exclude(waiting)
	if err != nil && ctx.Err() == nil && waiting.Err() != nil {
		err = fmt.Errorf("imports or copies were still at work after %v: try again when they have ended", wait)
	}
	return release, err
}

func (c *collector) run(ctx context.Context) error {
	if err := c.mark(ctx); err != nil {
		return err
	}
	if err := c.sweepPaths(ctx); err != nil {
		return err
	}
	n, _, _, err := c.sweep(ctx, c.dirs, c.needed.dirs)
	c.result.Directories = n
	if err != nil {
		return err
	}
	c.result.Blobs, c.result.KeptBlobs, c.result.BlobBytes, err = c.sweep(ctx, c.blobs, c.needed.blobs)
	if tidier, ok := c.blobs.(castore.Tidier); ok && err == nil && !c.o.DryRun {
		err = tidier.Tidy(ctx)
	}
	return err
}
