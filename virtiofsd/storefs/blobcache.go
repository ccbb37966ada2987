package storefs

import (
	"container/list"
	"context"
	"sync"

	"storeboot/virtiofsd/castore"
)

// blobCache keeps the blobs that were read last open. One that is being read is
// never closed, so there may be more than limit for a moment.
type blobCache struct {
	blobs castore.BlobService
	limit int

	mu   sync.Mutex
	open map[castore.Digest]*openBlob
	lru  list.List // of *openBlob, the one used last in front
}

// openBlob is a blob and how many reads use it now.
type openBlob struct {
	castore.Blob
	digest castore.Digest
	refs   int
	elem   *list.Element
}

func newBlobCache(blobs castore.BlobService, limit int) *blobCache {
	return &blobCache{blobs: blobs, limit: limit, open: map[castore.Digest]*openBlob{}}
}

// acquire opens a blob for one read, which ends with release.
func (c *blobCache) acquire(ctx context.Context, d castore.Digest) (*openBlob, error) {
	c.mu.Lock()
	if b := c.open[d]; b != nil {
		b.refs++
		c.lru.MoveToFront(b.elem)
		c.mu.Unlock()
		return b, nil
	}
	c.mu.Unlock()
	blob, err := c.blobs.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.open[d]
	if b != nil { // another read was first
		_ = blob.Close()
	} else {
		b = &openBlob{Blob: blob, digest: d}
		b.elem = c.lru.PushFront(b)
		c.open[d] = b
		c.evict()
	}
	b.refs++
	return b, nil
}

func (c *blobCache) release(b *openBlob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.refs--
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
		}
	}
}

func (c *blobCache) drop(b *openBlob) {
	c.lru.Remove(b.elem)
	delete(c.open, b.digest)
	_ = b.Close()
}

func (c *blobCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.open {
		c.drop(b)
	}
}
