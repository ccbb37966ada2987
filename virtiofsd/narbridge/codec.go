package narbridge

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxWindow is the largest window of zstd and dictionary of xz that is taken, in
// bytes: what zstd -22 and twice what xz -9 use.
const maxWindow = 128 << 20

// codec is a compression of NARs.
type codec struct {
	name     string // as in Content-Encoding
	suffixes []string
	magic    []byte // at the beginning
	open     func(io.Reader) (io.ReadCloser, error)
}

// codecs are the compressions that are taken. As suffixes: what Nix writes, and
// what the compressors' own programs do. Nix gives gzip no suffix at all, which
// is what magic is for.
func codecs() []codec {
	return []codec{
		{"zstd", []string{".zst", ".zstd"}, []byte("\x28\xb5\x2f\xfd"), openZstd},
		{"xz", []string{".xz"}, []byte("\xfd7zXZ\x00"), openXZ},
		{"gzip", []string{".gz", ".gzip"}, []byte("\x1f\x8b\x08"), openGzip},
		{"bzip2", []string{".bz2"}, []byte("BZh"), openBzip2},
	}
}

func openZstd(r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

func openXZ(r io.Reader) (io.ReadCloser, error) {
	d, err := xz.NewReader(&xzGuard{r: r})
	if err != nil {
		return nil, err
	}
	return io.NopCloser(d), nil
}

func openGzip(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }

func openBzip2(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }

// bySuffix finds a codec by what follows ".nar". The suffix "" is none.
func bySuffix(suffix string) (*codec, bool) {
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

// byMagic finds a codec by how the file begins; nil if it is none of them.
func byMagic(r *bufio.Reader) *codec {
	head, _ := r.Peek(6) // a short file is none of them, an error comes again
	for _, c := range codecs() {
		if bytes.HasPrefix(head, c.magic) {
			return &c
		}
	}
	return nil
}

// decodeContent undoes the Content-Encoding of a request. close frees what that
// takes.
func decodeContent(r *http.Request, b io.Reader) (decoded io.Reader, closeAll func(), err error) {
	var closers []io.Closer
	closeAll = func() {
		for _, c := range closers {
			_ = c.Close() // a reader
		}
	}
	var names []string
	for _, name := range strings.Split(strings.Join(r.Header.Values("Content-Encoding"), ","), ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" && name != "identity" {
			names = append(names, strings.TrimPrefix(name, "x-"))
		}
	}
	if len(names) > 2 {
		return nil, closeAll, refuse(http.StatusUnsupportedMediaType, "the body is encoded %d times: at most 2 are taken", len(names))
	}
	for i := len(names) - 1; i >= 0; i-- { // the last one was put on last
		c, ok := byName(names[i])
		if !ok {
			closeAll()
			return nil, func() {}, refuse(http.StatusUnsupportedMediaType, "the content encoding %q is not known here: zstd, xz, gzip and bzip2 are", names[i])
		}
		rc, err := c.open(b)
		if err != nil {
			closeAll()
			return nil, func() {}, fmt.Errorf("content encoding %s: %w", c.name, err)
		}
		closers = append(closers, rc)
		b = rc
	}
	return b, closeAll, nil
}

func byName(name string) (codec, bool) {
	for _, c := range codecs() {
		if c.name == name {
			return c, true
		}
	}
	return codec{}, false
}

var errTooLarge = errors.New("too large")

// limited ends with errTooLarge where a NAR is larger than it may be.
type limited struct {
	r            io.Reader
	n            int64
	max          int64
	maxExpansion int64
	packed       func() int64 // how much was read of the body
}

// freeExpansion is what may be unpacked of any file, in bytes.
const freeExpansion = 1 << 30

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	l.n += int64(n)
	switch {
	case l.n > l.max:
		return n, fmt.Errorf("the NAR is %w: more than %d bytes", errTooLarge, l.max)
	case l.n > freeExpansion && l.n/l.maxExpansion > l.packed():
		return n, fmt.Errorf("the NAR is %w for its file: more than %d times as large", errTooLarge, l.maxExpansion)
	}
	return n, err
}
