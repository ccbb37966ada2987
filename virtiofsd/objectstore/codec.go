package objectstore

import (
	"fmt"
	"runtime"

	"github.com/klauspost/compress/zstd"
)

// codec compresses and decompresses chunks. Several goroutines may use it at
// once.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newCodec() (*codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), // level 3
		zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)),
		zstd.WithEncoderCRC(false), // chunks have digests
		zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, fmt.Errorf("set up zstd: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxChunk))
	if err != nil {
		return nil, fmt.Errorf("set up zstd: %w", err)
	}
	return &codec{enc, dec}, nil
}

// compress makes one zstd frame.
func (c *codec) compress(plain []byte) []byte {
	if len(plain) == 0 {
		return c.enc.EncodeAll(nil, nil)
	}
	return c.enc.EncodeAll(plain, make([]byte, 0, len(plain)/2))
}

// decompress takes any number of zstd frames that hold at most maxChunk bytes.
func (c *codec) decompress(stored []byte) ([]byte, error) {
	plain, err := c.dec.DecodeAll(stored, nil)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return plain, nil
}

func (c *codec) close() {
	c.enc.Close()
	c.dec.Close()
}
