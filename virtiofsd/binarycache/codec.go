package binarycache

import (
	"bufio"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// maxWindow is the largest window or dictionary of a compressed NAR, in bytes:
// twice that of xz -9, and that of zstd --long.
const maxWindow = 128 << 20

// decompress reads what r holds in a compression of Nix's. Closing it does not
// close r.
func decompress(name string, r io.Reader) (io.ReadCloser, error) {
	switch name {
	case "none", "":
		return io.NopCloser(r), nil
	case "zstd":
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(2*maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case "xz":
		b := bufio.NewReader(r)
		if err := checkXZ(b); err != nil {
			return nil, err
		}
		d, err := xz.NewReader(b)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(d), nil
	case "gzip":
		d, err := gzip.NewReader(r)
		if err != nil {
			return nil, unexpected(err)
		}
		return d, nil
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(bufio.NewReader(r))), nil
	case "lz4":
		return io.NopCloser(lz4.NewReader(r)), nil
	}
	return nil, fmt.Errorf("compression %q is not known (there is: none, zstd, xz, gzip, bzip2, lz4)", name[:min(len(name), 100)])
}

// checkXZ refuses a stream whose first block wants too large a dictionary: the
// library takes what it is told to. Later blocks take no more memory than they
// unpack to.
func checkXZ(r *bufio.Reader) error {
	const streamHeader = 12
	head, err := r.Peek(streamHeader + 1)
	if err != nil {
		return unexpected(err)
	}
	size := (int(head[streamHeader]) + 1) * 4 // of the block header
	if head, err = r.Peek(streamHeader + size); err != nil {
		return unexpected(err)
	}
	if size == 4 {
		return nil // the index: an empty stream
	}
	b := head[streamHeader+2:]
	for bit := byte(0x40); bit != 0; bit <<= 1 {
		if head[streamHeader+1]&bit == 0 {
			continue
		}
		_, n := binary.Uvarint(b)
		if n <= 0 {
			return errors.New("xz: block header is damaged")
		}
		b = b[n:]
	}
	if len(b) < 3 || b[0] != 0x21 || b[1] != 1 {
		return errors.New("xz: a filter other than LZMA2 is not read here")
	}
	dict, err := lzma.DecodeDictCap(b[2])
	if err != nil {
		return fmt.Errorf("xz: %w", err)
	}
	if dict > maxWindow {
		return fmt.Errorf("xz: a dictionary of %d bytes, more than %d", dict, maxWindow)
	}
	return nil
}

// unexpected is err, where a stream that has no beginning is a truncated one.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// CheckCompression says whether uploads can be compressed so.
func CheckCompression(name string) error {
	switch name {
	case "none", "zstd", "xz", "gzip":
		return nil
	}
	return fmt.Errorf("compression %q is not possible for uploads (there is: none, zstd, xz, gzip)", name[:min(len(name), 100)])
}

// Compressor compresses what is written to it, as name says: none, zstd, xz or
// gzip. Close ends the stream and does not close w.
func Compressor(name string, w io.Writer) (io.WriteCloser, error) {
	if err := CheckCompression(name); err != nil {
		return nil, err
	}
	switch name {
	case "zstd":
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	case "xz":
		// The check that the kernel and old readers know too costs nothing.
		return xz.WriterConfig{CheckSum: xz.CRC32}.NewWriter(w)
	case "gzip":
		return gzip.NewWriter(w), nil
	}
	return nopCloser{w}, nil
}

// Suffix is what the name of a NAR ends in, after ".nar".
func Suffix(compression string) string {
	switch compression {
	case "zstd":
		return ".zst"
	case "xz":
		return ".xz"
	case "gzip":
		return ".gz"
	}
	return ""
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
