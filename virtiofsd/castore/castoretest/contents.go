package castoretest

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
)

// Pattern is n bytes that differ from those of another seed.
func Pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	h := blake3.New()
	_, _ = fmt.Fprintf(h, "%d", seed)
	if _, err := io.ReadFull(h.Digest(), b); err != nil {
		panic(err) // the output of BLAKE3 has no end
	}
	return b
}

// PutBlob stores b in one write.
func PutBlob(t testing.TB, s castore.BlobService, b []byte) castore.Digest {
	t.Helper()
	d, err := putBlob(s, b, len(b)+1)
	if err != nil {
		t.Fatalf("put a blob of %d bytes: %v", len(b), err)
	}
	return d
}

// putBlob stores b in writes of step bytes.
func putBlob(s castore.BlobService, b []byte, step int) (castore.Digest, error) {
	w, err := s.Create(context.Background())
	if err != nil {
		return castore.Digest{}, err
	}
	defer w.Abort()
	for len(b) > 0 {
		n := min(step, len(b))
		if m, err := w.Write(b[:n]); err != nil || m != n {
			return castore.Digest{}, fmt.Errorf("Write of %d = %d, %v", n, m, err)
		}
		b = b[n:]
	}
	return w.Close()
}

// GetBlob reads a blob whole.
func GetBlob(s castore.BlobService, d castore.Digest) ([]byte, error) {
	b, err := s.Open(context.Background(), d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
}
