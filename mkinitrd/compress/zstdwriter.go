package compress

import (
	"io"

	"github.com/klauspost/compress/zstd"
)

// zstdWriter makes frames whose length is a multiple of 4, without padding
// behind them: zstd and lsinitramfs take zero bytes there for damage, though
// the kernel does not. The padding is blocks without data (RFC 8878, 3.1.1.2:
// three bytes each), in front of the last one.
type zstdWriter struct {
	*zstd.Encoder
	tail *tailWriter
}

// endOfFrame is a last block without data, as the encoder ends a stream that
// was flushed, and the checksum.
const endOfFrame = 3 + 4

func newZstdWriter(w io.Writer, level int) (*zstdWriter, error) {
	t := &tailWriter{w: w}
	z, err := zstd.NewWriter(t,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
		zstd.WithWindowSize(maxWindow),
		zstd.WithZeroFrames(true),
		zstd.WithEncoderCRC(true))
	return &zstdWriter{z, t}, err
}

// Close ends the frame.
func (z *zstdWriter) Close() error {
	if err := z.Flush(); err != nil {
		return err
	}
	if err := z.Encoder.Close(); err != nil {
		return err
	}
	t := z.tail
	if len(t.held) == endOfFrame && t.held[0] == 1 && t.held[1] == 0 && t.held[2] == 0 {
		// Each block makes the rest one less.
		if _, err := t.w.Write(make([]byte, 3*((t.n+endOfFrame)%align))); err != nil {
			return err
		}
	}
	_, err := t.w.Write(t.held)
	t.held = nil
	return err
}

// tailWriter holds back the last bytes.
type tailWriter struct {
	w    io.Writer
	held []byte
	n    int64 // written to w
}

func (t *tailWriter) Write(p []byte) (int, error) {
	t.held = append(t.held, p...)
	if more := len(t.held) - endOfFrame; more > 0 {
		n, err := t.w.Write(t.held[:more])
		t.n += int64(n)
		if err != nil {
			return 0, err
		}
		t.held = append(t.held[:0], t.held[more:]...)
	}
	return len(p), nil
}
