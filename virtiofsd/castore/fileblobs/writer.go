package fileblobs

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/proof"
)

const (
	// bufferSize is up to which size blobs are put into packs, in bytes. Nearly
	// all files of a store are smaller. They are kept in memory until they are
	// whole.
	bufferSize = 256 << 10
	// writebackSize is how much is written before the kernel is told to bring
	// it to the disk, in bytes.
	writebackSize = 8 << 20
)

// writer takes the contents of one blob, first into buf, then, if they are large,
// into file.
type writer struct {
	ctx    context.Context
	store  *Store
	hash   *blake3.Hasher // of what went into file
	sums   proof.Summer   // likewise
	size   int64          // likewise
	begun  int64          // of this, the kernel was told to bring it to the disk
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
	if w.file == nil { // made late: it is large, and small blobs need none
		w.hash = blake3.New()
		f, number, err := w.store.newFile()
		if err != nil {
			w.err = err
			return 0, err
		}
		w.file, w.number = f, number
		if w.err = w.put(*w.buf); w.err != nil {
			return 0, w.err
		}
	}
	if w.err = w.put(p); w.err != nil {
		return 0, w.err
	}
	return len(p), nil
}

// put writes to the file.
func (w *writer) put(p []byte) error {
	_, _ = w.hash.Write(p) // never fails
	_, _ = w.sums.Write(p)
	if _, err := w.file.Write(p); err != nil {
		return fmt.Errorf("write blob: %w", err)
	}
	w.size += int64(len(p))
	if w.size-w.begun >= writebackSize {
		// A hint, so that the disk is at work meanwhile; the flush waits for it.
		_ = unix.SyncFileRange(int(w.file.Fd()), w.begun, w.size-w.begun, unix.SYNC_FILE_RANGE_WRITE)
		w.begun = w.size
	}
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
		return d, w.store.pack(w.ctx, d, *w.buf)
	}
	if w.size > proof.WholeSize {
		saveSums(w.file.Name()+sumsSuffix, d, w.sums.Sums())
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
		os.Remove(w.file.Name() + sumsSuffix)
		w.file = nil
	}
}
