package fileblobs

import (
	"io"
	"os"

	"storeboot/virtiofsd/castore"
)

// blob is a file of the store, opened for reading.
type blob struct {
	file *os.File
	size int64
}

var _ castore.FileBlob = (*blob)(nil)

// ReadAt reads the first size bytes of the file alone: the file of the empty
// blob has others behind them.
func (b *blob) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(b.file, 0, b.size).ReadAt(p, off)
}

func (b *blob) Size() int64    { return b.size }
func (b *blob) File() *os.File { return b.file }
func (b *blob) Close() error   { return b.file.Close() }
