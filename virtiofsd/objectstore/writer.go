package objectstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/fastcdc"
)

// blobWriter cuts what is written into chunks and uploads them, several at
// once. The first chunk waits until there is a second: a blob that is one chunk
// is stored at Close and not before.
type blobWriter struct {
	store    *Blobs
	ctx      context.Context // of the uploads; ends with the first that fails
	cancel   context.CancelCauseFunc
	splitter *fastcdc.Splitter
	buf      *[]byte // nil once closed or aborted
	sum      *blake3.Hasher
	first    []byte
	sizes    []int64
	err      error // the first one; the blob is of no more use

	uploads sync.WaitGroup
	mu      sync.Mutex
	digests map[int]castore.Digest // of the chunks
}

// Create implements [castore.BlobService].
func (s *Blobs) Create(ctx context.Context) (castore.BlobWriter, error) {
	if err := errors.Join(ctx.Err(), context.Cause(s.ctx)); err != nil {
		return nil, fmt.Errorf("create blob: %w", err)
	}
	w := &blobWriter{store: s, buf: s.buffers.Get().(*[]byte), digests: map[int]castore.Digest{}}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.splitter = fastcdc.NewSplitter(s.chunker, *w.buf, w.chunk)
	return w, nil
}

func (w *blobWriter) Write(p []byte) (int, error) {
	switch {
	case w.buf == nil:
		return 0, errors.New("write blob: closed already")
	case w.err != nil:
		return 0, w.err
	}
	if err := context.Cause(w.ctx); err != nil {
		w.err = fmt.Errorf("write blob: %w", err)
		return 0, w.err
	}
	n, err := w.splitter.Write(p)
	if err != nil {
		w.err = fmt.Errorf("write blob: %w", err)
	}
	return n, w.err
}

// chunk takes a chunk from the splitter.
func (w *blobWriter) chunk(data []byte) error {
	data = bytes.Clone(data)
	w.sizes = append(w.sizes, int64(len(data)))
	switch len(w.sizes) {
	case 1:
		w.first = data
		return nil
	case 2:
		w.sum = blake3.New()
		first := w.first
		w.first = nil
		if err := w.upload(0, first); err != nil {
			return err
		}
	}
	return w.upload(len(w.sizes)-1, data)
}

// upload begins the upload of chunk i, once there is a place for it.
func (w *blobWriter) upload(i int, data []byte) error {
	select {
	case w.store.uploads <- struct{}{}:
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
	w.uploads.Go(func() {
		defer func() { <-w.store.uploads }()
		d := castore.Digest(blake3.Sum256(data))
		if err := w.store.storeChunk(w.ctx, d, data); err != nil {
			w.cancel(fmt.Errorf("store chunk %s: %w", d, err))
			return
		}
		w.mu.Lock()
		w.digests[i] = d
		w.mu.Unlock()
	})
	_, _ = w.sum.Write(data) // never fails
	return nil
}

func (w *blobWriter) Close() (castore.Digest, error) {
	if w.buf == nil {
		return castore.Digest{}, errors.New("close blob: closed already")
	}
	defer w.Abort()
	if w.err != nil {
		return castore.Digest{}, w.err
	}
	d, err := w.finish()
	if err != nil {
		return castore.Digest{}, fmt.Errorf("close blob: %w", err)
	}
	return d, nil
}

func (w *blobWriter) finish() (castore.Digest, error) {
	if err := w.splitter.Close(); err != nil {
		return castore.Digest{}, err
	}
	switch len(w.sizes) {
	case 0:
		return castore.EmptyBlob, w.storeIndex(castore.EmptyBlob, nil)
	case 1:
		d := castore.Digest(blake3.Sum256(w.first))
		select {
		case w.store.uploads <- struct{}{}:
			defer func() { <-w.store.uploads }()
		case <-w.ctx.Done():
			return d, context.Cause(w.ctx)
		}
		return d, w.store.storeChunk(w.ctx, d, w.first)
	}
	w.uploads.Wait()
	if err := context.Cause(w.ctx); err != nil {
		return castore.Digest{}, err
	}
	chunks := make([]chunkMeta, len(w.sizes))
	for i, size := range w.sizes {
		chunks[i] = chunkMeta{w.digests[i], size}
	}
	d := castore.Digest(w.sum.Sum(nil))
	return d, w.storeIndex(d, chunks)
}

// storeIndex stores the index of a blob whose chunks are stored. One that is
// there may list other chunks, which are as good.
func (w *blobWriter) storeIndex(d castore.Digest, chunks []chunkMeta) error {
	index := encodeIndex(chunks)
	if len(index) > maxIndex {
		return fmt.Errorf("the index of %d chunks has %d bytes, of at most %d: raise %s", len(chunks), len(index), maxIndex, averageParam)
	}
	has, err := w.store.bucket.Exists(w.ctx, blobSpace.key(d))
	if has || err != nil {
		return err
	}
	if err := w.store.bucket.Put(w.ctx, blobSpace.key(d), index); err != nil {
		return err
	}
	w.store.proofs.add(d, castore.Digest(blake3.Sum256(index)))
	return nil
}

func (w *blobWriter) Abort() {
	if w.buf == nil {
		return
	}
	w.cancel(context.Canceled)
	w.uploads.Wait()
	*w.buf = (*w.buf)[:0]
	w.store.buffers.Put(w.buf)
	w.buf, w.first, w.splitter = nil, nil, nil
}
