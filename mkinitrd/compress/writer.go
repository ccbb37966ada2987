package compress

import (
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/ulikunitz/xz"
)

// maxWindow is the largest zstd window that is written: the kernel allocates
// it at boot, and larger ones cost more time there than they save space.
const maxWindow = 8 << 20

// align is the alignment of a segment's end.
const align = 4

// NewWriter returns a writer that compresses to w, which has to be at an offset
// that is a multiple of 4. Level 0 is the codec's default; see [Codec.Levels].
// Close ends the stream and pads it; it does not close w.
//
// The levels of zstd are those of its command, in four steps: 1 to 2, 3 to 5,
// 6 to 9, 10 and more.
func NewWriter(w io.Writer, c Codec, level int) (io.WriteCloser, error) {
	if err := c.CheckLevel(level); err != nil {
		return nil, err
	}
	if _, _, preset := c.Levels(); level == 0 {
		level = preset
	}
	count := &counter{w: w}
	switch c {
	case None:
		return &writer{Writer: count, out: count}, nil
	case Gzip:
		z, err := gzip.NewWriterLevel(count, level)
		if err != nil {
			return nil, fmt.Errorf("compress with gzip: %w", err)
		}
		z.ModTime = time.Unix(0, 0) // a zero Time would not be written as 0
		return &writer{Writer: z, stream: z, out: count}, nil
	case Zstd:
		z, err := newZstdWriter(count, level)
		if err != nil {
			return nil, fmt.Errorf("compress with zstd: %w", err)
		}
		return &writer{Writer: z, stream: z, out: count}, nil
	case LZ4:
		z := &lz4Writer{w: count, level: level}
		return &writer{Writer: z, stream: z, out: count}, nil
	case XZ:
		// The kernel knows no other check than CRC32.
		z, err := xz.WriterConfig{CheckSum: xz.CRC32, DictCap: maxWindow}.NewWriter(count)
		if err != nil {
			return nil, fmt.Errorf("compress with xz: %w", err)
		}
		return &writer{Writer: z, stream: z, out: count}, nil
	}
	_, err := Parse(string(c))
	return nil, err
}

// writer pads the stream that it writes.
type writer struct {
	io.Writer
	stream io.Closer
	out    *counter
}

func (w *writer) Close() error {
	if w.stream != nil {
		if err := w.stream.Close(); err != nil {
			return err
		}
	}
	_, err := w.out.Write(make([]byte, -w.out.n&(align-1)))
	return err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
