package unpack

import (
	"fmt"
	"io"
	"os"
)

const (
	// inMemory is how much of a spool is kept in memory.
	inMemory = 64 << 20
	// MaxData is how much data the files of an image may have: a guest holds
	// all of it in memory.
	MaxData = 16 << 30
)

// Spool keeps the data of an image's files. The zero value is empty and ready.
type Spool struct {
	mem  []byte
	file *os.File // holds what does not fit; it has no name
	n    int64
	err  error
}

// Write appends; its error is final.
func (s *Spool) Write(p []byte) (int, error) {
	if s.err == nil {
		s.err = s.write(p)
	}
	if s.err != nil {
		return 0, s.err
	}
	s.n += int64(len(p))
	return len(p), nil
}

func (s *Spool) write(p []byte) error {
	if s.n+int64(len(p)) > MaxData {
		return fmt.Errorf("the files of the image have more than %d GiB", MaxData>>30)
	}
	if room := inMemory - len(s.mem); s.file == nil && len(p) <= room {
		s.mem = append(s.mem, p...)
		return nil
	}
	if s.file == nil {
		f, err := os.CreateTemp("", "mkinitrd-")
		if err != nil {
			return err
		}
		s.file = f
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
	}
	_, err := s.file.Write(p)
	return err
}

// ReadAt reads what was written.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(s.mem)) {
		n = copy(p, s.mem[off:])
		if n == len(p) {
			return n, nil
		}
		off += int64(n)
	}
	if s.file == nil || off >= s.n {
		return n, io.EOF
	}
	m, err := s.file.ReadAt(p[n:], off-int64(len(s.mem)))
	return n + m, err
}

// Close frees what the spool holds.
func (s *Spool) Close() error {
	s.mem = nil
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
