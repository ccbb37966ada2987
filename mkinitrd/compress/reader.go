package compress

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"
)

// maxReadWindow is the largest zstd window that is read.
const maxReadWindow = 128 << 20

// NewReader returns a reader of what the next segment of r unpacks to, and its
// codec. For a compressed segment it ends with the segment, and leaves in r
// what follows; an uncompressed one has no end of its own: the reader is r.
// Truncation is io.ErrUnexpectedEOF; Close frees memory, and does not read on.
func NewReader(r *bufio.Reader) (io.ReadCloser, Codec, error) {
	head, err := r.Peek(maxMagic)
	if len(head) == 0 {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, "", fmt.Errorf("read segment: %w", err)
	}
	switch c := Detect(head); c {
	case None:
		return io.NopCloser(r), c, nil
	case Gzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, c, fmt.Errorf("read gzip: %w", noEOF(err))
		}
		z.Multistream(false)
		return &reader{Reader: z, close: z.Close, codec: c}, c, nil
	case Zstd:
		f := &frame{r: r}
		z, err := zstd.NewReader(f,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxReadWindow))
		if err != nil {
			return nil, c, fmt.Errorf("read zstd: %w", noEOF(err))
		}
		return &reader{Reader: z, close: func() error { z.Close(); return nil }, whole: f.whole, codec: c}, c, nil
	case XZ:
		z, err := newXZReader(r)
		if err != nil {
			return nil, c, fmt.Errorf("read xz: %w", noEOF(err))
		}
		return &reader{Reader: z, codec: c}, c, nil
	case LZMA:
		z, err := lzma.ReaderConfig{DictCap: maxReadWindow}.NewReader(r)
		if err != nil {
			return nil, c, fmt.Errorf("read lzma: %w", cutOff(r, err))
		}
		return &reader{Reader: z, codec: c}, c, nil
	case Bzip2:
		return &reader{Reader: newBzip2Reader(r), codec: c}, c, nil
	case LZ4:
		return &reader{Reader: &lz4Reader{r: r}, codec: c}, c, nil
	case "":
		if isCut(head) {
			return nil, "", fmt.Errorf("read segment: %w", io.ErrUnexpectedEOF)
		}
		return nil, "", fmt.Errorf("read segment: begins with % x: neither an archive nor compressed in a way that the kernel knows", head)
	default:
		return nil, c, fmt.Errorf("read segment: compressed with %s, which is not read here: unpack it first (%s -d)", c, c)
	}
}

// reader names the codec in its errors.
type reader struct {
	io.Reader
	close func() error
	whole func() bool // the stream has been read whole; nil: its reader knows
	codec Codec
}

func (r *reader) Close() error {
	if r.close == nil {
		return nil
	}
	return r.close()
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	// The zstd decoder takes an input of 4 bytes for an empty one.
	if errors.Is(err, io.EOF) && r.whole != nil && !r.whole() {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read %s: %w", r.codec, err)
	}
	return n, err
}

// cutOff is io.ErrUnexpectedEOF if the input is at its end, since the lzma
// library says so in words of its own.
func cutOff(r *bufio.Reader, err error) error {
	if _, e := r.Peek(1); errors.Is(e, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
