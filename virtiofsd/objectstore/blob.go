package objectstore

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"sort"
	"sync"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/objectstore/bucket"
)

// blob is an open blob. It holds the list of its chunks, no contents.
type blob struct {
	store  *Blobs
	digest castore.Digest
	chunks []chunkMeta
	ends   []int64 // of the chunks in the blob
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu   sync.Mutex
	next int // the chunk after the one that was read last

	// sum goes along with who reads the chunks in order.
	sumMu sync.Mutex
	sum   hash.Hash // nil if the blob is one chunk, which has its digest
	done  int       // chunks in sum
	bad   error     // the chunks do not make up the blob
}

func newBlob(s *Blobs, d castore.Digest, chunks []chunkMeta) *blob {
	b := &blob{store: s, digest: d, chunks: chunks, ends: make([]int64, len(chunks))}
	var end int64
	for i, c := range chunks {
		end += c.size
		b.ends[i] = end
	}
	if len(chunks) > 1 || len(chunks) == 1 && chunks[0].digest != d {
		b.sum = blake3.New()
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

func (b *blob) Close() error {
	b.cancel(fs.ErrClosed)
	return nil
}

func (b *blob) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read blob %s: offset %d", b.digest, off)
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

// chunk returns the contents of a chunk.
func (b *blob) chunk(i int) ([]byte, error) {
	b.readAhead(i)
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
	return data, b.verify(i, data)
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

// verify takes chunk i into the digest of the whole if it is the next one.
func (b *blob) verify(i int, data []byte) error {
	if b.sum == nil {
		return nil
	}
	b.sumMu.Lock()
	defer b.sumMu.Unlock()
	if i != b.done {
		return b.bad
	}
	_, _ = b.sum.Write(data) // never fails
	b.done++
	if b.done == len(b.chunks) {
		if got := castore.Digest(b.sum.Sum(nil)); got != b.digest {
			b.bad = fmt.Errorf("the chunks of %s make up %s: the store is damaged", blobSpace.key(b.digest), got)
		}
	}
	return b.bad
}
