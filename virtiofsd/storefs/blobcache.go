package storefs

import (
	"container/list"
	"context"
	"sync"
	"time"

	"storeboot/virtiofsd/castore"
)

// blobCache keeps the blobs that were read last open. One that is being read is
// never closed, so there may be more than limit for a moment.
type blobCache struct {
	blobs   castore.BlobService
	limit   int
	flights *flights[*openBlob]
	stats   *Caches

	mu     sync.Mutex
	open   map[castore.Digest]*openBlob
	lru    list.List // of *openBlob, the one used last in front
	closed bool
}

// openBlob is a blob and how many reads use it now.
type openBlob struct {
	castore.Blob
	file   castore.FileBlob // the same if the contents are in a plain file, else nil
	fd     int              // of that
	digest castore.Digest
	refs   int
	elem   *list.Element
}

func newBlobCache(ctx context.Context, blobs castore.BlobService, limit int, wait time.Duration, stats *Caches) *blobCache {
	return &blobCache{blobs: blobs, limit: limit, flights: newFlights[*openBlob](ctx, wait), stats: stats, open: map[castore.Digest]*openBlob{}}
}

// acquire opens a blob for one read, which ends with release.
func (c *blobCache) acquire(w waiter, d castore.Digest) (*openBlob, error) {
	if b := c.cached(d); b != nil {
		c.stats.BlobHits.Add(1)
		return b, nil
	}
	c.stats.BlobMisses.Add(1)
	for {
		b, err := c.flights.do(w, d, func(ctx context.Context) (*openBlob, error) {
			blob, err := c.blobs.Open(ctx, d)
			if err != nil {
				return nil, err
			}
			return c.put(d, blob)
		})
		if err != nil {
			return nil, err
		}
		if c.again(b) {
			return b, nil
		}
	}
}

// cached returns a blob that is open, for one read.
func (c *blobCache) cached(d castore.Digest) *openBlob {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.open[d]
	if b != nil {
		b.refs++
		c.lru.MoveToFront(b.elem)
	}
	return b
}

// again counts one more read of a blob, unless it has been closed meanwhile.
func (c *blobCache) again(b *openBlob) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[b.digest] != b {
		return false
	}
	b.refs++
	return true
}

// put takes a blob that was opened.
func (c *blobCache) put(d castore.Digest, blob castore.Blob) (*openBlob, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = blob.Close()
		return nil, context.Canceled
	}
	if b := c.open[d]; b != nil { // another was first
		_ = blob.Close()
		return b, nil
	}
	b := &openBlob{Blob: blob, digest: d}
	if f, ok := blob.(castore.FileBlob); ok {
		b.file, b.fd = f, int(f.File().Fd())
	}
	b.elem = c.lru.PushFront(b)
	c.open[d] = b
	c.evict()
	return b, nil
}

func (c *blobCache) release(b *openBlob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.refs--
	if c.open[b.digest] != b && b.refs == 0 { // it was closed under its readers
		_ = b.Close()
		return
	}
	c.evict()
}

// evict closes blobs that nobody reads, from the back of the list, until there
// are no more than limit.
func (c *blobCache) evict() {
	for e := c.lru.Back(); e != nil && len(c.open) > c.limit; {
		b := e.Value.(*openBlob)
		e = e.Prev()
		if b.refs == 0 && b != c.lru.Front().Value {
			c.drop(b)
			_ = b.Close()
		}
	}
}

func (c *blobCache) drop(b *openBlob) {
	c.lru.Remove(b.elem)
	delete(c.open, b.digest)
}

// close closes all blobs: one that is still read when its last reader is done.
func (c *blobCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, b := range c.open {
		c.drop(b)
		if b.refs == 0 {
			_ = b.Close()
		}
	}
}
