package storefs

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"storeboot/virtiofsd/castore"
)

// dirCache keeps directories in two generations: when the young one holds half
// of the limit it becomes the old one, and what was old and not asked for since
// goes. It costs no more than a map look-up, and keeps what is in use.
type dirCache struct {
	store   castore.DirectoryService
	limit   int // bytes in each generation, as [dir.cost] reckons
	flights *flights[*dir]
	stats   *Caches

	generation atomic.Uint64 // how often the young one became old

	mu         sync.Mutex
	young, old map[castore.Digest]*dir
	bytes      int                     // in young
	ahead      map[castore.Digest]bool // trees that are being got whole
}

// maxAhead is how many trees are got ahead at once.
const maxAhead = 8

func newDirCache(ctx context.Context, store castore.DirectoryService, bytes int, wait time.Duration, stats *Caches) *dirCache {
	return &dirCache{
		store: store, limit: bytes / 2, flights: newFlights[*dir](ctx, wait), stats: stats,
		young: map[castore.Digest]*dir{}, ahead: map[castore.Digest]bool{},
	}
}

// cached returns a directory from the cache, nil if it is not there.
func (c *dirCache) cached(d castore.Digest) *dir {
	c.mu.Lock()
	defer c.mu.Unlock()
	if dir := c.young[d]; dir != nil {
		return dir
	}
	dir := c.old[d]
	if dir != nil {
		c.add(d, dir)
	}
	return dir
}

// load returns a directory from the cache or the store.
func (c *dirCache) load(w waiter, d castore.Digest) (*dir, error) {
	if dir := c.cached(d); dir != nil {
		c.stats.DirectoryHits.Add(1)
		return dir, nil
	}
	c.stats.DirectoryMisses.Add(1)
	return c.flights.do(w, d, func(ctx context.Context) (*dir, error) {
		if dir := c.cached(d); dir != nil { // it has come meanwhile
			return dir, nil
		}
		stored, err := c.store.Get(ctx, d)
		if err != nil {
			return nil, err
		}
		return c.put(d, stored)
	})
}

func (c *dirCache) put(d castore.Digest, stored *castore.Directory) (*dir, error) {
	dir, err := newDir(stored)
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", d, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young[d] == nil {
		c.add(d, dir)
	}
	return dir, nil
}

func (c *dirCache) add(d castore.Digest, x *dir) {
	n := x.cost()
	if c.bytes+n > c.limit && c.bytes > 0 {
		c.old, c.young, c.bytes = c.young, map[castore.Digest]*dir{}, 0
		c.generation.Add(1)
	}
	c.young[d] = x
	c.bytes += n
}

// getAhead begins to get the whole tree below a directory, if the store is far
// away: in one stream instead of one question for each directory. It ends at
// half of what the cache may hold.
func (c *dirCache) getAhead(d castore.Digest) {
	if !c.flights.slow.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ahead[d] || len(c.ahead) >= maxAhead {
		return
	}
	c.ahead[d] = true
	go func() {
		_ = c.stream(d) // who needs a directory that has not come asks for it, and is told
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.ahead, d)
	}()
}

func (c *dirCache) stream(d castore.Digest) error {
	ctx, cancel := context.WithTimeout(c.flights.ctx, patience*c.flights.wait)
	defer cancel()
	left := c.limit
	for stored, err := range c.store.Closure(ctx, d) {
		if err != nil {
			return err
		}
		dir, err := c.put(stored.Digest(), stored)
		if err != nil {
			return err
		}
		c.stats.DirectoriesAhead.Add(1)
		if left -= dir.cost(); left < 0 {
			return nil
		}
	}
	return nil
}
