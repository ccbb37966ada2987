package blobpack

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/proof"
)

// blob is a part of a pack, opened for reading.
type blob struct {
	set    *Set
	pack   *pack
	number int
	entry  entry
	closed atomic.Bool
}

var _ castore.FileBlob = (*blob)(nil)

func (b *blob) Size() int64    { return b.entry.size }
func (b *blob) File() *os.File { return b.pack.file }
func (b *blob) Offset() int64  { return b.entry.offset }

func (b *blob) section() *io.SectionReader {
	return io.NewSectionReader(b.pack.file, b.entry.offset, b.entry.size)
}

// Prove hashes the whole blob: it is small.
func (b *blob) Prove(_, _ int64) error {
	word, bit := &b.pack.proven[b.number/32], uint32(1)<<(b.number%32)
	if word.Load()&bit != 0 {
		return nil
	}
	if err := proof.Small(b.section(), b.entry.size, b.entry.digest); err != nil {
		return fmt.Errorf("contents of blob %s (%s) in the pack %s, bytes %d to %d: %w", b.entry.digest, b.entry.digest.Hex(), b.pack.path+packSuffix, b.entry.offset, b.entry.offset+b.entry.size, err)
	}
	word.Or(bit)
	return nil
}

func (b *blob) ReadAt(p []byte, off int64) (int, error) {
	if err := b.Prove(off, int64(len(p))); err != nil {
		return 0, err
	}
	return b.section().ReadAt(p, off)
}

func (b *blob) Close() error {
	if b.closed.Swap(true) {
		return os.ErrClosed
	}
	b.set.release(b.pack)
	return nil
}
