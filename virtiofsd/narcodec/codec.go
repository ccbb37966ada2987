package narcodec

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// MaxWindow is the largest window or dictionary that is taken, in bytes: what
// zstd -22 uses, and twice what xz -9 does.
const MaxWindow = 128 << 20

// Codec is a compression of NARs. A nil one is none.
type Codec struct {
	// Name is as in a narinfo.
	Name     string
	suffixes []string // Nix's first, then those of the compressors' own programs
	magic    string   // at the beginning; empty: there is none
	reader   func(io.Reader) (io.ReadCloser, error)
	writer   func(io.Writer) (io.WriteCloser, error) // nil: it is not written here
}

func codecs() []Codec {
	return []Codec{
		{"zstd", []string{".zst", ".zstd"}, "\x28\xb5\x2f\xfd", readZstd, func(w io.Writer) (io.WriteCloser, error) {
			return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		}},
		{"xz", []string{".xz"}, "\xfd7zXZ\x00", readXZ, func(w io.Writer) (io.WriteCloser, error) {
			return xz.WriterConfig{CheckSum: xz.CRC32}.NewWriter(w) // which all readers know
		}},
		{"gzip", []string{".gz", ".gzip"}, "\x1f\x8b\x08", readGzip, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }},
		{"bzip2", []string{".bz2"}, "BZh", func(r io.Reader) (io.ReadCloser, error) {
			return io.NopCloser(bzip2.NewReader(r)), nil
		}, nil},
		{"br", []string{".br"}, "", func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(brotli.NewReader(r)), nil }, nil},
		{"lz4", []string{".lz4"}, "\x04\x22\x4d\x18", func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(lz4.NewReader(r)), nil }, nil},
		{"lzip", []string{".lzip", ".lz"}, lzipMagic, readLzip, nil},
		{"lzma", []string{".lzma"}, "", readLZMA, nil},
	}
}

// ByName finds a codec by the Compression of a narinfo. That of "none" and "" is
// nil.
func ByName(name string) (*Codec, error) {
	if name == "none" || name == "" {
		return nil, nil
	}
	for _, c := range codecs() {
		if c.Name == name {
			return &c, nil
		}
	}
	return nil, fmt.Errorf("compression %q is not known (there is: %s)", name[:min(len(name), 100)], names(func(Codec) bool { return true }))
}

// BySuffix finds a codec by what follows ".nar". The suffix "" is none.
func BySuffix(suffix string) (c *Codec, ok bool) {
	if suffix == "" {
		return nil, true
	}
	for _, c := range codecs() {
		for _, s := range c.suffixes {
			if s == suffix {
				return &c, true
			}
		}
	}
	return nil, false
}

// ByMagic finds a codec by how a file begins; nil if it is none that tells.
func ByMagic(r *bufio.Reader) *Codec {
	head, _ := r.Peek(6) // a short file is none of them, an error comes again
	for _, c := range codecs() {
		if c.magic != "" && bytes.HasPrefix(head, []byte(c.magic)) {
			return &c
		}
	}
	return nil
}

// names lists, for errors, the codecs that f holds for, with none.
func names(f func(Codec) bool) string {
	list := []string{"none"}
	for _, c := range codecs() {
		if f(c) {
			list = append(list, c.Name)
		}
	}
	return strings.Join(list, ", ")
}

// NewReader reads what r holds, compressed. Close frees what that takes; it does
// not close r. A stream that ends too early is [io.ErrUnexpectedEOF].
func (c *Codec) NewReader(r io.Reader) (io.ReadCloser, error) {
	if c == nil {
		return io.NopCloser(r), nil
	}
	b := bufio.NewReader(r)
	_, err := b.Peek(1)
	var z io.ReadCloser
	if err == nil {
		z, err = c.reader(b)
	}
	if err != nil {
		err = unexpected(err) // there is not even a beginning
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	return z, nil
}

func readZstd(r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(MaxWindow), zstd.WithDecoderMaxMemory(2*MaxWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

func readXZ(r io.Reader) (io.ReadCloser, error) {
	d, err := xz.NewReader(&xzGuard{r: r})
	if err != nil {
		return nil, err
	}
	return io.NopCloser(d), nil
}

func readGzip(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }

// CheckWriter is an error if a compression is not written here.
func CheckWriter(name string) error {
	writes := func(c Codec) bool { return c.writer != nil }
	c, err := ByName(name)
	if err == nil && name != "" && (c == nil || writes(*c)) {
		return nil
	}
	return fmt.Errorf("compression %q is not possible for uploads (there is: %s)", name[:min(len(name), 100)], names(writes))
}

// NewWriter compresses what is written to it. Close ends the stream and does not
// close w.
func NewWriter(name string, w io.Writer) (io.WriteCloser, error) {
	if err := CheckWriter(name); err != nil {
		return nil, err
	}
	c, err := ByName(name)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nopCloser{w}, nil
	}
	return c.writer(w)
}

// Suffix is what the name of a file ends in, after ".nar"; "" for none and for
// what is not known.
func Suffix(name string) string {
	c, err := ByName(name)
	if err != nil || c == nil {
		return ""
	}
	return c.suffixes[0]
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
