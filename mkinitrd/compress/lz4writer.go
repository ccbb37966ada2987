package compress

import (
	"encoding/binary"
	"io"

	"github.com/pierrec/lz4/v4"
)

// lz4Writer writes the legacy format. It ends with four zero bytes, which are
// its end mark where another segment follows.
type lz4Writer struct {
	w     io.Writer
	level int
	buf   []byte
	begun bool
}

// fastLZ4 is the level that is not one of the slow compressor.
const fastLZ4 = 1

func (z *lz4Writer) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		n := min(len(p), lz4Block-len(z.buf))
		z.buf = append(z.buf, p[:n]...)
		p = p[n:]
		if len(z.buf) == lz4Block {
			if err := z.block(); err != nil {
				return total - len(p), err
			}
		}
	}
	return total, nil
}

// block writes what is buffered.
func (z *lz4Writer) block() error {
	if !z.begun {
		z.begun = true
		if _, err := z.w.Write(binary.LittleEndian.AppendUint32(nil, lz4Magic)); err != nil {
			return err
		}
	}
	if len(z.buf) == 0 {
		return nil
	}
	// With room for the worst case, every block can be packed.
	out := make([]byte, 4+lz4.CompressBlockBound(len(z.buf)))
	var n int
	var err error
	if z.level == fastLZ4 {
		n, err = new(lz4.Compressor).CompressBlock(z.buf, out[4:])
	} else {
		c := lz4.CompressorHC{Level: lz4.CompressionLevel(1 << (7 + z.level))}
		n, err = c.CompressBlock(z.buf, out[4:])
	}
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(out, uint32(n))
	z.buf = z.buf[:0]
	_, err = z.w.Write(out[:4+n])
	return err
}

func (z *lz4Writer) Close() error {
	if err := z.block(); err != nil {
		return err
	}
	_, err := z.w.Write(make([]byte, 4))
	return err
}
