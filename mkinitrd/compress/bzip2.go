package compress

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"io"
	"strings"
)

// bzip2Reader reads one bzip2 stream. The library looks behind its end for
// another one; what it saw of that is left in the input.
type bzip2Reader struct {
	z   io.Reader
	src *lazyBytes
	err error
}

func newBzip2Reader(r *bufio.Reader) *bzip2Reader {
	src := &lazyBytes{r: r}
	return &bzip2Reader{z: bzip2.NewReader(src), src: src}
}

func (b *bzip2Reader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.z.Read(p)
	var e bzip2.StructuralError
	switch {
	case errors.Is(err, io.EOF):
		b.src.take()
	case errors.As(err, &e) && strings.Contains(string(e), "continuation"):
		// Two bytes behind the end, which stay.
		err = io.EOF
	}
	b.err = err
	return n, err
}

// lazyBytes gives out bytes of r and takes the last two only when it is asked
// for more. It is an io.ByteReader so that the library reads no further than
// it has to.
type lazyBytes struct {
	r    *bufio.Reader
	seen int // given out, and still in r: 0 to 2
}

func (l *lazyBytes) ReadByte() (byte, error) {
	if l.seen == 2 {
		_, _ = l.r.Discard(1)
		l.seen--
	}
	b, err := l.r.Peek(l.seen + 1)
	if err != nil {
		return 0, err
	}
	l.seen++
	return b[l.seen-1], nil
}

func (l *lazyBytes) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c, err := l.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = c
	return 1, nil
}

// take takes all that was given out.
func (l *lazyBytes) take() {
	_, _ = l.r.Discard(l.seen)
	l.seen = 0
}
