package unpacktest

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// must is for writers to memory, which do not fail.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func pack(make func(io.Writer) (io.WriteCloser, error), data string) string {
	var b bytes.Buffer
	w, err := make(&b)
	must(err)
	_, err = io.WriteString(w, data)
	must(err)
	must(w.Close())
	return b.String()
}

func zst(data string) string {
	return pack(func(w io.Writer) (io.WriteCloser, error) {
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithZeroFrames(true))
	}, data)
}

func gz(data string) string {
	return pack(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, 1) }, data)
}

// gzExtra has a field in its header that the kernel does not skip, as bgzip
// writes it.
func gzExtra(data string) string {
	return pack(func(w io.Writer) (io.WriteCloser, error) {
		z := gzip.NewWriter(w)
		z.Extra = []byte("BC\x02\x00\x1b\x00")
		return z, nil
	}, data)
}

func xzSum(data string, sum byte) string {
	return pack(func(w io.Writer) (io.WriteCloser, error) {
		return xz.WriterConfig{CheckSum: sum, DictCap: 1 << 20}.NewWriter(w)
	}, data)
}

func lzma1(data string) string {
	return pack(func(w io.Writer) (io.WriteCloser, error) {
		return lzma.WriterConfig{DictCap: 1 << 20, EOSMarker: true}.NewWriter(w)
	}, data)
}

// lz4Legacy is one block of the format that lz4 -l writes.
func lz4Legacy(data string) string {
	b := make([]byte, lz4.CompressBlockBound(len(data)))
	n, err := new(lz4.Compressor).CompressBlock([]byte(data), b)
	must(err)
	if n == 0 {
		panic("data that does not pack")
	}
	s := binary.LittleEndian.AppendUint32([]byte("\x02\x21\x4c\x18"), uint32(n))
	return string(s) + string(b[:n])
}

// flip changes one byte.
func flip(s string, at int) string {
	b := []byte(s)
	b[at] ^= 0xff
	return string(b)
}
