package spool

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

// TestSpool holds that all sizes around the limit come back, and that what is
// larger lies in a file without a name.
func TestSpool(t *testing.T) {
	const memory = 1000
	for _, size := range []int{0, 1, memory - 1, memory, memory + 1, 10 * memory} {
		for _, step := range []int{1, 7, memory, 20 * memory} {
			for _, reserve := range []bool{false, true} {
				dir := t.TempDir()
				s := New(dir, memory)
				want := castoretest.Pattern(size, uint64(size))
				for p := want; len(p) > 0; {
					n := min(step, len(p))
					if reserve {
						s.Reserve(n)
					}
					if m, err := s.Write(p[:n]); m != n || err != nil {
						t.Fatalf("Write = %d, %v", m, err)
					}
					p = p[n:]
				}
				b := s.Blob()
				got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes in steps of %d: read %d bytes, %v", size, step, len(got), err)
				}
				if _, isFile := b.(castore.FileBlob); isFile != (size > memory) {
					t.Errorf("%d bytes: in a file: %v", size, isFile)
				}
				if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
					t.Errorf("%d bytes leave %v, %v", size, list, err)
				}
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func TestNoDirectory(t *testing.T) {
	s := New("/no/such/dir", 10)
	if _, err := s.Write(make([]byte, 11)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Write: %v", err)
	}
	s.Drop()
}
