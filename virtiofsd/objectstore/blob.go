package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"sync"
	"sync/atomic"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/objectstore/bucket"
)

// blob is an open blob. It holds the list of its chunks; contents are in the
// cache of its service, or in a temporary file.
type blob struct {
	store  *Blobs
	digest castore.Digest
	chunks []chunkMeta
	ends   []int64 // of the chunks in the blob
	ctx    context.Context
	cancel context.CancelCauseFunc

	// proved says that the chunks make up the blob. Before, nothing of it is
	// handed out.
	proved  atomic.Bool
	proving sync.Mutex     // held by who finds out
	index   castore.Digest // of the index that lists the chunks
	bad     error          // they do not; guarded by proving
	spooled castore.Blob   // all of it, or nil; set before proved

	mu     sync.Mutex
	next   int            // the chunk after the one that was read last
	reads  sync.WaitGroup // of spooled
	closed bool
}

func newBlob(s *Blobs, d castore.Digest, chunks []chunkMeta, index castore.Digest) *blob {
	b := &blob{store: s, digest: d, chunks: chunks, ends: make([]int64, len(chunks)), index: index}
	var end int64
	for i, c := range chunks {
		end += c.size
		b.ends[i] = end
	}
	if len(chunks) == 0 || len(chunks) == 1 && chunks[0].digest == d {
		b.proved.Store(true) // a chunk is checked whenever it is loaded
	}
	b.ctx, b.cancel = context.WithCancelCause(s.ctx)
	return b
}

func (b *blob) Size() int64 {
	if len(b.ends) == 0 {
		return 0
	}
	return b.ends[len(b.ends)-1]
}

// Close waits for reads of the temporary file that are under way.
func (b *blob) Close() error {
	b.cancel(fs.ErrClosed)
	b.mu.Lock()
	again := b.closed
	b.closed = true
	b.mu.Unlock()
	b.proving.Lock() // ends soon, as the context has
	spooled := b.spooled
	b.proving.Unlock()
	if again || spooled == nil {
		return nil
	}
	b.reads.Wait()
	return spooled.Close()
}

func (b *blob) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read blob %s: offset %d", b.digest, off)
	}
	if err := b.prove(); err != nil {
		return 0, fmt.Errorf("read blob %s: %w", b.digest, err)
	}
	if b.spooled != nil {
		return b.readSpooled(p, off)
	}
	n := 0
	for i := sort.Search(len(b.ends), func(i int) bool { return b.ends[i] > off }); n < len(p); i++ {
		if i == len(b.chunks) {
			return n, io.EOF
		}
		data, err := b.chunk(i)
		if err != nil {
			return n, fmt.Errorf("read blob %s: %w", b.digest, err)
		}
		start := off + int64(n) - (b.ends[i] - b.chunks[i].size)
		n += copy(p[n:], data[start:])
	}
	return n, nil
}

// ReadCached reads all of p if its chunks are in memory, or the blob in a
// temporary file, and says whether they were. If not it waits for nothing, and p
// may hold a part.
func (b *blob) ReadCached(p []byte, off int64) bool {
	if off < 0 || !b.proved.Load() {
		return false
	}
	if b.spooled != nil {
		n, _ := b.readSpooled(p, off)
		return n == len(p)
	}
	n := 0
	for i := sort.Search(len(b.ends), func(i int) bool { return b.ends[i] > off }); n < len(p); i++ {
		if i == len(b.chunks) {
			return false
		}
		data := b.store.cache.peek(b.chunks[i].digest)
		if int64(len(data)) != b.chunks[i].size {
			return false
		}
		b.readAhead(i)
		start := off + int64(n) - (b.ends[i] - b.chunks[i].size)
		n += copy(p[n:], data[start:])
	}
	return true
}

func (b *blob) readSpooled(p []byte, off int64) (int, error) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return 0, fmt.Errorf("read blob %s: %w", b.digest, fs.ErrClosed)
	}
	b.reads.Add(1)
	b.mu.Unlock()
	defer b.reads.Done()
	return b.spooled.ReadAt(p, off)
}

// chunk returns the contents of a chunk.
func (b *blob) chunk(i int) ([]byte, error) {
	b.readAhead(i)
	return b.load(i)
}

// load gets a chunk from the cache or the bucket.
func (b *blob) load(i int) ([]byte, error) {
	c := b.chunks[i]
	data, err := b.store.cache.get(b.ctx, c.digest)
	if errors.Is(err, bucket.ErrNotFound) {
		return nil, fmt.Errorf("chunk %d of %d, %s, is missing (%s in %s): the store is damaged", i+1, len(b.chunks), c.digest, chunkSpace.key(c.digest), b.store.bucket)
	}
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != c.size {
		return nil, fmt.Errorf("chunk %d of %d, %s, has %d bytes, and %s says %d: the store is damaged", i+1, len(b.chunks), c.digest, len(data), blobSpace.key(b.digest), c.size)
	}
	return data, nil
}

// readAhead begins to load what follows chunk i if the chunks are read in order.
func (b *blob) readAhead(i int) {
	b.mu.Lock()
	fresh, inOrder := i != b.next-1, i == b.next
	b.next = i + 1
	b.mu.Unlock()
	if !fresh || !inOrder {
		return
	}
	last := i + readAhead
	if i == 0 { // many a reader wants the begin of a file alone
		last = 1
	}
	for j := i; j <= last && j < len(b.chunks); j++ {
		b.store.cache.prefetch(b.chunks[j].digest, requests)
	}
}
