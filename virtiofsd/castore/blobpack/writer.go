package blobpack

import (
	"bytes"
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
)

const (
	// bufferSize is how much is written to a pack at once, in bytes.
	bufferSize = 1 << 20
	// writebackSize is how much is written before the kernel is told to bring
	// it to the disk, so that the disk is at work while others hash.
	writebackSize = 8 << 20
)

// ErrSealed is what Append returns when the writer takes no more.
var ErrSealed = errors.New("the pack is sealed")

// Writer makes one pack. Its methods may be called by several goroutines at
// once.
type Writer struct {
	create func() (*os.File, error) // makes the file when it is needed

	mu      sync.Mutex
	file    *os.File // nil at first
	written int64    // bytes of contents in file
	started int64    // of these, the kernel was told to bring them to the disk
	buf     []byte   // contents after these
	entries []entry
	numbers map[castore.Digest]int // of entries
	sealed  bool
	dropped bool
	err     error // the first failed write
}

// NewWriter makes a writer. The file that create makes, for reading and writing,
// is the writer's; as long as there are few blobs there is none.
func NewWriter(create func() (*os.File, error)) *Writer {
	return &Writer{create: create, numbers: map[castore.Digest]int{}}
}

// Append adds a blob, unless it is there, and returns how many bytes of contents
// there are.
func (w *Writer) Append(d castore.Digest, b []byte) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.sealed:
		return 0, ErrSealed
	case w.err != nil:
		return 0, w.err
	}
	if _, ok := w.numbers[d]; ok {
		return w.size(), nil
	}
	if len(w.buf)+len(b) > bufferSize {
		if w.err = w.spill(); w.err != nil {
			return 0, w.err
		}
	}
	w.numbers[d] = len(w.entries)
	w.entries = append(w.entries, entry{d, w.size(), int64(len(b))})
	w.buf = append(w.buf, b...)
	return w.size(), nil
}

func (w *Writer) size() int64 { return w.written + int64(len(w.buf)) }

// spill moves what is in the buffer to the file.
func (w *Writer) spill() error {
	if w.file == nil {
		f, err := w.create()
		if err != nil {
			return err
		}
		w.file = f
	}
	n, err := w.file.WriteAt(w.buf, w.written)
	w.written += int64(n)
	if err != nil {
		return err
	}
	w.buf = w.buf[:0]
	if w.written-w.started >= writebackSize {
		// A hint; what matters is the sync at the end.
		_ = unix.SyncFileRange(int(w.file.Fd()), w.started, w.written-w.started, unix.SYNC_FILE_RANGE_WRITE)
		w.started = w.written
	}
	return nil
}

// Has says whether the blob was appended.
func (w *Writer) Has(d castore.Digest) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.numbers[d]
	return ok
}

// Open returns a copy of a blob that was appended, nil if it was not.
func (w *Writer) Open(d castore.Digest) (castore.Blob, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, ok := w.numbers[d]
	if !ok || w.dropped {
		return nil, nil
	}
	b := make([]byte, w.entries[i].size)
	if err := w.read(b, w.entries[i].offset); err != nil {
		return nil, err
	}
	return memoryBlob{bytes.NewReader(b)}, nil
}

// read fills b with contents; a blob is in the file or in the buffer.
func (w *Writer) read(b []byte, off int64) error {
	if off >= w.written {
		copy(b, w.buf[off-w.written:])
		return nil
	}
	_, err := w.file.ReadAt(b, off)
	return err
}

type memoryBlob struct{ *bytes.Reader }

func (b memoryBlob) Size() int64  { return b.Reader.Size() }
func (b memoryBlob) Close() error { return nil }

// Few returns the blobs if they are all in memory and fewer than limit: too few
// for a pack. The writer then takes no more.
func (w *Writer) Few(limit int) (map[castore.Digest][]byte, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil || len(w.entries) >= limit {
		return nil, false
	}
	w.sealed = true
	m := map[castore.Digest][]byte{}
	for _, e := range w.entries {
		m[e.digest] = w.buf[e.offset : e.offset+e.size]
	}
	return m, true
}

// Seal ends the pack and brings it to the disk. The file is closed by
// [Set.Add], or by Drop.
func (w *Writer) Seal() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sealed = true
	if w.err == nil {
		w.err = w.seal()
	}
	return w.err
}

func (w *Writer) seal() error {
	if err := w.spill(); err != nil {
		return err
	}
	sorted := append([]entry(nil), w.entries...)
	if _, err := w.file.WriteAt(encodeIndex(sorted, w.written), w.written); err != nil {
		return err
	}
	return w.file.Sync()
}

// Len is the number of blobs.
func (w *Writer) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.entries)
}

// Drop closes the file, which the caller removes or has added to a set. What was
// appended can be opened no more.
func (w *Writer) Drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sealed, w.dropped = true, true
	if w.file != nil {
		_ = w.file.Close()
		w.file = nil
	}
}
