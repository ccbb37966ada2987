package castore

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/zeebo/blake3"
)

// memoryBlobs holds blobs in memory, for tests and for stores that live as long
// as their process.
type memoryBlobs struct {
	mu    sync.RWMutex
	blobs map[Digest][]byte // values are never changed
}

// NewMemoryBlobs makes an empty blob service that holds its blobs in memory.
func NewMemoryBlobs() BlobService {
	return &memoryBlobs{blobs: map[Digest][]byte{EmptyBlob: nil}}
}

// EmptyBlob is the digest of no bytes, of the empty blob and the empty
// directory.
var EmptyBlob = Digest(blake3.Sum256(nil))

func (m *memoryBlobs) Has(ctx context.Context, d Digest) (bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	_, ok := m.blobs[d]
	return ok, ctx.Err()
}

func (m *memoryBlobs) Open(_ context.Context, d Digest) (Blob, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	b, ok := m.blobs[d]
	if !ok {
		return nil, fmt.Errorf("open blob %s: %w", d, ErrNotFound)
	}
	return memoryBlob{bytes.NewReader(b)}, nil
}

func (m *memoryBlobs) Create(ctx context.Context) (BlobWriter, error) {
	return &memoryBlobWriter{to: m, hash: blake3.New()}, ctx.Err()
}

func (m *memoryBlobs) Flush(ctx context.Context) error { return ctx.Err() }
func (m *memoryBlobs) Close() error                    { return nil }

type memoryBlob struct{ *bytes.Reader }

func (b memoryBlob) Size() int64  { return b.Reader.Size() }
func (b memoryBlob) Close() error { return nil }

// ReadCached reads all of p, and says whether that was possible without waiting.
func (b memoryBlob) ReadCached(p []byte, offset int64) bool {
	n, _ := b.ReadAt(p, offset)
	return n == len(p)
}

type memoryBlobWriter struct {
	to   *memoryBlobs // nil once closed or aborted
	data []byte
	hash *blake3.Hasher
}

func (w *memoryBlobWriter) Write(p []byte) (int, error) {
	if w.to == nil {
		return 0, errWriterClosed
	}
	w.data = append(w.data, p...)
	return w.hash.Write(p)
}

func (w *memoryBlobWriter) Close() (Digest, error) {
	if w.to == nil {
		return Digest{}, errWriterClosed
	}
	var d Digest
	w.hash.Sum(d[:0])
	w.to.mu.Lock()
	defer w.to.mu.Unlock()
	if _, ok := w.to.blobs[d]; !ok {
		w.to.blobs[d] = w.data
	}
	w.to = nil
	return d, nil
}

func (w *memoryBlobWriter) Abort() { w.to, w.data = nil, nil }
