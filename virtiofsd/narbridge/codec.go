package narbridge

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"storeboot/virtiofsd/narcodec"
)

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
		c, err := narcodec.ByName(names[i])
		if err != nil {
			closeAll()
			return nil, func() {}, refuse(http.StatusUnsupportedMediaType, "content encoding: %w", err)
		}
		rc, err := c.NewReader(b)
		if err != nil {
			closeAll()
			return nil, func() {}, fmt.Errorf("content encoding: %w", err)
		}
		closers = append(closers, rc)
		b = rc
	}
	return b, closeAll, nil
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
