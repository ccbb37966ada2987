package spool

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
)

// Spool takes the contents of one blob. It ends with Blob or with Drop.
type Spool struct {
	memory int
	dir    string
	buf    []byte
	file   *os.File
	size   int64
}

// New makes a spool that holds up to memory bytes in memory, and what is larger
// in a file in dir.
func New(dir string, memory int) *Spool { return &Spool{memory: memory, dir: dir} }

func (s *Spool) Write(p []byte) (int, error) {
	if s.file == nil && len(s.buf)+len(p) > s.memory {
		if err := s.toFile(); err != nil {
			return 0, fmt.Errorf("make a temporary file for it: %w", err)
		}
	}
	if s.file == nil {
		s.buf = append(s.buf, p...)
		s.size += int64(len(p))
		return len(p), nil
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	if err != nil {
		err = fmt.Errorf("write it to a temporary file in %s: %w", s.dir, err)
	}
	return n, err
}

// Reserve makes room for n bytes in one step, for who writes small pieces.
func (s *Spool) Reserve(n int) {
	if s.file != nil || len(s.buf)+n > s.memory || cap(s.buf)-len(s.buf) >= n {
		return
	}
	s.buf = append(make([]byte, 0, min(max(2*cap(s.buf), len(s.buf)+n), s.memory)), s.buf...)
}

func (s *Spool) toFile() error {
	f, err := openUnnamed(s.dir)
	if err != nil {
		return err
	}
	s.file = f
	_, err = f.Write(s.buf)
	s.buf = nil
	return err
}

// openUnnamed makes a file without a name. Where the file system cannot, the
// name is removed at once.
func openUnnamed(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), dir+"/(unnamed)"), nil
	}
	f, err := os.CreateTemp(dir, "storeboot-blob-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Drop forgets what was written. After Blob it must not be called.
func (s *Spool) Drop() {
	if s.file != nil {
		_ = s.file.Close()
	}
}

// Blob is what was written, a [castore.FileBlob] if it lies in a file. To close
// it frees it.
func (s *Spool) Blob() castore.Blob {
	if s.file != nil {
		return fileBlob{s.file, s.size}
	}
	return memoryBlob{bytes.NewReader(s.buf)}
}

type memoryBlob struct{ *bytes.Reader }

func (b memoryBlob) Size() int64  { return b.Reader.Size() }
func (b memoryBlob) Close() error { return nil }

// fileBlob is a [castore.FileBlob].
type fileBlob struct {
	file *os.File
	size int64
}

func (b fileBlob) Size() int64                             { return b.size }
func (b fileBlob) File() *os.File                          { return b.file }
func (b fileBlob) Offset() int64                           { return 0 }
func (b fileBlob) Prove(_, _ int64) error                  { return nil } // a file of this process, a moment old
func (b fileBlob) ReadAt(p []byte, off int64) (int, error) { return b.file.ReadAt(p, off) }
func (b fileBlob) Close() error                            { return b.file.Close() }
