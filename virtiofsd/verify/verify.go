package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

// Store is the store that is checked.
type Store struct {
	Blobs       castore.BlobService
	Directories castore.DirectoryService
	PathInfos   pathinfo.Service
}

// Options say what to check.
type Options struct {
	// Paths are the store paths to check; none: all that the store holds.
	Paths []storepath.StorePath
	// Remove removes what is damaged and the path infos of all store paths that
	// need it, so that they can be stored anew. The store has to be one that
	// can be collected.
	Remove bool
	// Progress, unless nil, is called now and then with how many bytes have
	// been read since its last call, of how many in all, as far as is known.
	Progress func(bytes, total int64)
}

// checker is one check of a store.
type checker struct {
	store Store
	o     Options
	infos []*pathinfo.PathInfo
	total int64 // of Options.Progress

	mu       sync.Mutex
	report   Report
	blobs    map[castore.Digest]error // claimed by who hashes it; nil if it is good or not known yet
	dirs     map[castore.Digest]error
	unlike   map[storepath.StorePath]error // whose NAR is another one
	badInfos map[storepath.Hash]error
	telling  sync.Mutex // Progress is called by one goroutine at a time
}

// Run checks the store. An error means that the check could not be done; damage
// is in the report.
func Run(ctx context.Context, s Store, o Options) (Report, error) {
	release, err := lock(ctx, s, o.Remove)
	if err != nil {
		return Report{}, err
	}
	defer release()
	c := &checker{
		store: s, o: o,
		blobs: map[castore.Digest]error{}, dirs: map[castore.Digest]error{},
		unlike: map[storepath.StorePath]error{}, badInfos: map[storepath.Hash]error{},
	}
	if err := c.load(ctx); err != nil {
		return Report{}, err
	}
	if err := c.checkPaths(ctx); err != nil {
		return Report{}, err
	}
	if len(o.Paths) == 0 {
		if err := c.checkRest(ctx); err != nil {
			return Report{}, err
		}
	}
	if err := c.collect(ctx); err != nil {
		return Report{}, err
	}
	if o.Remove {
		err = c.remove(ctx)
	}
	return c.report, err
}

// lock keeps collections out, and to remove something also imports.
func lock(ctx context.Context, s Store, remove bool) (func(), error) {
	guard, ok := s.Blobs.(castore.Guard)
	switch {
	case !ok && remove:
		return nil, errNoRemove
	case !ok:
		return func() {}, nil
	case remove:
		return guard.Exclude(ctx)
	}
	return guard.Hold(ctx)
}

var errNoRemove = errors.New("damage can only be removed from a store of files (blobs file:, directories and path infos sqlite:)")

// load reads the path infos.
func (c *checker) load(ctx context.Context) error {
	for _, p := range c.o.Paths {
		info, err := c.store.PathInfos.Get(ctx, p.Hash)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, pathinfo.ErrNotFound) || err == nil && info.StorePath != p:
			return fmt.Errorf("store path %s is not in the store", p.Absolute())
		case err != nil:
			c.badInfos[p.Hash] = err
		default:
			c.add(info)
		}
	}
	if len(c.o.Paths) > 0 {
		return nil
	}
	s, ok := c.store.PathInfos.(pathinfo.Sweeper)
	if !ok {
		for info, err := range c.store.PathInfos.List(ctx) {
			if err != nil {
				return err
			}
			c.add(info)
		}
		return nil
	}
	for item, err := range s.Items(ctx) {
		if err != nil {
			return err
		}
		info, err := c.store.PathInfos.Get(ctx, item.Hash)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			c.badInfos[item.Hash] = err
		default:
			c.add(info)
		}
	}
	return nil
}

func (c *checker) add(info *pathinfo.PathInfo) {
	c.infos = append(c.infos, info)
	c.total += int64(min(info.NarSize, 1<<62-uint64(c.total)))
}

// parallel calls f for every x, on all CPUs.
func parallel[T any](ctx context.Context, list []T, f func(context.Context, T) error) error {
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, x := range list {
		if working.Err() != nil {
			break
		}
		group.Go(func() error { return f(working, x) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// checkPaths checks every store path. The largest are begun first. A CPU that
// finds none left hashes blobs of those that others are at: the NAR of a path is
// hashed by one, its blobs may be by all.
func (c *checker) checkPaths(ctx context.Context) error {
	list := slices.Clone(c.infos)
	slices.SortFunc(list, func(a, b *pathinfo.PathInfo) int { return cmp.Compare(b.NarSize, a.NarSize) })
	c.report.Paths = len(c.infos) + len(c.badInfos)
	var mu sync.Mutex
	var next int
	done := make([]bool, len(list))
	take := func() int {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1
	}
	workers := make([]int, runtime.GOMAXPROCS(0))
	return parallel(ctx, workers, func(ctx context.Context, _ int) error {
		for i := take(); i < len(list); i = take() {
			if err := c.path(ctx, list[i]); err != nil {
				return err
			}
			mu.Lock()
			done[i] = true
			mu.Unlock()
		}
		for i, info := range list {
			mu.Lock()
			over := done[i]
			mu.Unlock()
			if over {
				continue
			}
			if err := c.tree(ctx, info.Node); err != nil { // from its end
				return err
			}
		}
		return nil
	})
}

// checkRest checks what no store path needs.
func (c *checker) checkRest(ctx context.Context) error {
	for _, x := range []struct {
		service any
		check   func(context.Context, castore.Item) error
	}{
		{c.store.Directories, func(ctx context.Context, i castore.Item) error { return c.directory(ctx, i.Digest) }},
		{c.store.Blobs, func(ctx context.Context, i castore.Item) error { return c.blob(ctx, i.Digest) }},
	} {
		s, ok := x.service.(castore.Sweeper)
		if !ok {
			continue
		}
		var items []castore.Item
		for item, err := range s.Items(ctx) {
			if err != nil {
				return err
			}
			items = append(items, item)
			if len(items) < 4096 {
				continue
			}
			if err := parallel(ctx, items, x.check); err != nil {
				return err
			}
			items = items[:0]
		}
		if err := parallel(ctx, items, x.check); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) progress(bytes int64) {
	if c.o.Progress != nil && bytes > 0 {
		c.telling.Lock()
		defer c.telling.Unlock()
		c.o.Progress(bytes, c.total)
	}
}
