package fileblobs

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
)

// bufferSize is how much of a blob is kept in memory before a file is made for
// it, in bytes: a smaller blob that is in the store already then costs no file.
// Nearly all files of a store are smaller.
const bufferSize = 256 << 10

// writer takes the contents of one blob, first into buf, then into file.
type writer struct {
	ctx    context.Context
	store  *Store
	hash   *blake3.Hasher // of what went into file
	buf    *[]byte        // nil once closed or aborted
	file   *os.File
	number uint64 // of file in the staging directory
	err    error  // the first one; the writer is of no more use
}

// Create implements [castore.BlobService].
func (s *Store) Create(ctx context.Context) (castore.BlobWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("create blob: the store is closed")
	}
	if s.broken != nil {
		return nil, fmt.Errorf("create blob: an earlier write failed: %w", s.broken)
	}
	return &writer{ctx: ctx, store: s, buf: s.buffers.Get().(*[]byte)}, nil
}

func (w *writer) Write(p []byte) (int, error) {
	switch {
	case w.err != nil:
		return 0, w.err
	case w.buf == nil:
		return 0, errors.New("write blob: closed already")
	}
	if w.err = w.ctx.Err(); w.err != nil {
		return 0, w.err
	}
	if w.file == nil && len(*w.buf)+len(p) <= bufferSize {
		*w.buf = append(*w.buf, p...)
		return len(p), nil
	}
	if w.hash == nil { // made late: it is large, and small blobs need none
		w.hash = blake3.New()
		_, _ = w.hash.Write(*w.buf) // never fails
	}
	_, _ = w.hash.Write(p)
	if w.err = w.spill(); w.err != nil {
		return 0, w.err
	}
	if _, err := w.file.Write(p); err != nil {
		w.err = fmt.Errorf("write blob: %w", err)
		return 0, w.err
	}
	return len(p), nil
}

// spill moves what is in the buffer into a file.
func (w *writer) spill() error {
	if w.file == nil {
		f, number, err := w.store.newFile()
		if err != nil {
			return err
		}
		w.file, w.number = f, number
	}
	if len(*w.buf) == 0 {
		return nil
	}
	if _, err := w.file.Write(*w.buf); err != nil {
		return fmt.Errorf("write blob: %w", err)
	}
	*w.buf = (*w.buf)[:0]
	return nil
}

func (w *writer) Close() (castore.Digest, error) {
	if w.buf == nil {
		return castore.Digest{}, errors.New("close blob: closed already")
	}
	defer w.Abort() // drops the file, unless it was handed over
	if w.err != nil {
		return castore.Digest{}, w.err
	}
	var d castore.Digest
	if w.file == nil {
		d = castore.Digest(blake3.Sum256(*w.buf))
	} else {
		w.hash.Sum(d[:0])
	}
	// This also notes that the name is to be on the disk after a flush.
	if has, err := w.store.Has(w.ctx, d); has || err != nil {
		return d, err
	}
	if w.file == nil {
		if err := w.spill(); err != nil {
			return castore.Digest{}, err
		}
	}
	if err := w.file.Close(); err != nil {
		return castore.Digest{}, fmt.Errorf("write blob: %w", err)
	}
	w.file = nil
	staged, err := w.store.stage(d, w.number)
	if err != nil {
		return castore.Digest{}, err
	}
	return d, w.store.flushSome(w.ctx, staged)
}

func (w *writer) Abort() {
	if w.buf == nil {
		return
	}
	*w.buf = (*w.buf)[:0]
	w.store.buffers.Put(w.buf)
	w.buf = nil
	if w.file != nil {
		w.file.Close()
		os.Remove(w.file.Name())
		w.file = nil
	}
}
