package fileblobs

import (
	"fmt"
	"io"
	"os"

	"storeboot/virtiofsd/castore"
)

// blob is a file of the store, opened for reading.
type blob struct {
	file   *os.File
	size   int64
	digest castore.Digest
	proof  *fileProof // nil for the empty blob
}

var _ castore.FileBlob = (*blob)(nil)

// newBlob takes over an open file.
func (s *Store) newBlob(f *os.File, d castore.Digest) (castore.Blob, error) {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.Name())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	return &blob{f, info.Size(), d, s.proofs.of(d, info)}, nil
}

// ReadAt reads the first size bytes of the file alone: the file of the empty
// blob has others behind them.
func (b *blob) ReadAt(p []byte, off int64) (int, error) {
	if err := b.Prove(off, int64(len(p))); err != nil {
		return 0, err
	}
	return io.NewSectionReader(b.file, 0, b.size).ReadAt(p, off)
}

func (b *blob) Size() int64    { return b.size }
func (b *blob) File() *os.File { return b.file }
func (b *blob) Offset() int64  { return 0 }
func (b *blob) Close() error   { return b.file.Close() }

func (b *blob) Prove(off, n int64) error {
	if b.proof == nil {
		return nil
	}
	if err := b.proof.prove(b, off, n); err != nil {
		return fmt.Errorf("contents of blob %s in %s: %w", b.digest, b.file.Name(), err)
	}
	return nil
}
