package objectstore

import (
	"container/list"
	"context"
	"sync"

	"storeboot/virtiofsd/castore"
)

// chunkCache holds the decoded chunks that were used last, and sees to it that
// a chunk is loaded once for all who want it at the same time.
type chunkCache struct {
	// load fetches, decodes and checks a chunk. It runs in a goroutine of its
	// own, so that the one who asked first may give up without harm to others.
	load func(castore.Digest) ([]byte, error)
	max  int64 // bytes

	loading sync.WaitGroup

	mu      sync.Mutex
	chunks  map[castore.Digest]*cachedChunk
	order   *list.List // of *cachedChunk that are loaded, last used first
	bytes   int64
	pending int
	closed  bool
}

// cachedChunk is a chunk that is loaded or on its way.
type cachedChunk struct {
	digest castore.Digest
	done   chan struct{} // closed when data or err is set
	data   []byte        // never changed
	err    error
	place  *list.Element // in order; nil as long as it is on its way
}

func newChunkCache(max int64, load func(castore.Digest) ([]byte, error)) *chunkCache {
	return &chunkCache{load: load, max: max, chunks: map[castore.Digest]*cachedChunk{}, order: list.New()}
}

// get returns a chunk, which the caller must not change.
func (c *chunkCache) get(ctx context.Context, d castore.Digest) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	chunk := c.find(d, -1)
	select {
	case <-chunk.done:
		return chunk.data, chunk.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// peek returns a chunk that is loaded, nil if it is not.
func (c *chunkCache) peek(d castore.Digest) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	chunk := c.chunks[d]
	if chunk == nil || chunk.place == nil {
		return nil
	}
	c.order.MoveToFront(chunk.place)
	return chunk.data
}

// prefetch begins to load a chunk, unless that many are on their way already.
func (c *chunkCache) prefetch(d castore.Digest, limit int) { c.find(d, limit) }

// find returns the chunk, on its way if need be. It returns nil if it would have
// to be loaded beyond the limit; a negative limit is none.
func (c *chunkCache) find(d castore.Digest, limit int) *cachedChunk {
	c.mu.Lock()
	defer c.mu.Unlock()
	if chunk, ok := c.chunks[d]; ok {
		if chunk.place != nil {
			c.order.MoveToFront(chunk.place)
		}
		return chunk
	}
	if limit >= 0 && c.pending >= limit {
		return nil
	}
	chunk := &cachedChunk{digest: d, done: make(chan struct{})}
	if c.closed {
		chunk.err = errServiceClosed
		close(chunk.done)
		return chunk
	}
	c.chunks[d] = chunk
	c.pending++
	c.loading.Go(func() { c.fill(chunk) })
	return chunk
}

func (c *chunkCache) fill(chunk *cachedChunk) {
	data, err := c.load(chunk.digest)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending--
	chunk.data, chunk.err = data, err
	close(chunk.done)
	if err != nil {
		delete(c.chunks, chunk.digest)
		return
	}
	chunk.place = c.order.PushFront(chunk)
	c.bytes += int64(len(data))
	for c.bytes > c.max && c.order.Len() > 1 {
		last := c.order.Remove(c.order.Back()).(*cachedChunk)
		c.bytes -= int64(len(last.data))
		delete(c.chunks, last.digest)
	}
}

// close waits until nothing is loaded any more and forgets all.
func (c *chunkCache) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.loading.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.chunks)
	c.order.Init()
	c.bytes = 0
}
