package compress

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/pierrec/lz4/v4"
)

const (
	lz4Magic = 0x184c2102
	// lz4Block is what a block unpacks to, except for the last.
	lz4Block = 8 << 20
)

// lz4Reader reads the legacy format: the magic number, then blocks, each after
// its length. It has no end mark. As for the kernel, a length of zero or fewer
// than four bytes end it, and the magic number may come again between blocks.
type lz4Reader struct {
	r       *bufio.Reader
	started bool
	packed  []byte
	buf     []byte
	rest    []byte // of buf
	err     error
}

func (z *lz4Reader) Read(p []byte) (int, error) {
	for len(z.rest) == 0 {
		if z.err == nil {
			z.err = z.block()
		}
		if z.err != nil {
			return 0, z.err
		}
	}
	n := copy(p, z.rest)
	z.rest = z.rest[n:]
	return n, nil
}

// block unpacks the next block; io.EOF is the stream's end.
func (z *lz4Reader) block() error {
	b, err := z.r.Peek(4)
	switch {
	case len(b) < 4 && errors.Is(err, io.EOF):
		for _, c := range b {
			if c != 0 {
				return io.ErrUnexpectedEOF
			}
		}
		if !z.started {
			return io.ErrUnexpectedEOF
		}
		return io.EOF
	case err != nil:
		return err
	}
	size := binary.LittleEndian.Uint32(b)
	if size == 0 {
		return io.EOF
	}
	_, _ = z.r.Discard(4)
	if size == lz4Magic {
		z.started = true
		return nil
	}
	if int(size) > lz4.CompressBlockBound(lz4Block) {
		return fmt.Errorf("block of %d bytes is larger than any can be: is another segment right behind, with no four zero bytes between?", size)
	}
	if cap(z.packed) < int(size) {
		z.packed = make([]byte, size)
	}
	// A byte of a block stands for 255 at most.
	if most := min(lz4Block, 255*int(size)); len(z.buf) < most {
		z.buf = make([]byte, most)
	}
	if _, err := io.ReadFull(z.r, z.packed[:size]); err != nil {
		return noEOF(err)
	}
	n, err := lz4.UncompressBlock(z.packed[:size], z.buf)
	if err != nil {
		return err
	}
	z.rest = z.buf[:n]
	return nil
}
