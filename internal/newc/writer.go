package newc

import (
	"errors"
	"fmt"
	"io"
)

// ErrClosed is the error of a [Writer] that is used after Close.
var ErrClosed = errors.New("newc: writer is closed")

// Writer writes one segment. After its first error it refuses all further use
// with that error, so that a broken segment cannot be taken for a whole one.
type Writer struct {
	w     io.Writer
	n     int64  // bytes written, from the segment's start
	left  int64  // of the current entry's data
	name  string // of the current entry
	buf   []byte
	links map[linkKey]*linkSet
	err   error
}

// linkSet is what was written of a file with several names.
type linkSet struct {
	name  string // the first one
	names uint32
	want  uint32
	data  bool
}

// NewWriter returns a Writer of one segment to w, which has to be at an offset
// that is a multiple of 4. Each entry is one Write of its header and one for
// each of its data; nothing is held back but up to 3 bytes of padding.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// WriteHeader begins an entry; h.Size bytes have to follow by Write before the
// next one. It is an error if the previous entry's data is incomplete, or if h
// cannot be represented, or would be dropped or mistaken by the kernel: a name
// that is empty, longer than 4095 bytes, absolute, not clean, or holds "..";
// an unknown type; data where the type has none; a size of 4 GiB or more.
//
// Of a file with several names (NLink >= 2), at most one entry has data, be it
// the first or the last, and all have the same NLink.
func (w *Writer) WriteHeader(h *Header) error {
	if w.err != nil {
		return w.err
	}
	if err := w.complete(); err != nil {
		return w.fail(err)
	}
	if err := h.check(); err != nil {
		return w.fail(fmt.Errorf("newc: write %q: %w", h.Name, err))
	}
	if h.hardLinked() {
		if err := w.addLink(h); err != nil {
			return w.fail(fmt.Errorf("newc: write %q: %w", h.Name, err))
		}
	}
	out := *h
	if out.NLink == 0 {
		out.NLink = 1
		if h.IsDir() {
			out.NLink = 2
		}
	}
	w.name, w.left = h.Name, h.Size
	return w.emit(&out)
}

// Write writes data of the current entry. More than its size is an error, and
// none of p is written then.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if int64(len(p)) > w.left {
		return 0, w.fail(fmt.Errorf("newc: write %q: %d bytes more than its size", w.name, int64(len(p))-w.left))
	}
	n, err := w.w.Write(p)
	w.n += int64(n)
	w.left -= int64(n)
	if err != nil {
		return n, w.fail(fmt.Errorf("newc: write %q: %w", w.name, err))
	}
	return n, nil
}

// Close writes the trailer and ends the segment at a multiple of 4, where
// another one may begin; it does not close the underlying writer. It is an
// error if the last entry is incomplete, or a file with several names has not
// got all of them. A second Close returns the result of the first.
func (w *Writer) Close() error {
	if w.err != nil {
		if errors.Is(w.err, ErrClosed) {
			return nil
		}
		return w.err
	}
	if err := w.complete(); err != nil {
		return w.fail(err)
	}
	for _, l := range w.links {
		if l.names != l.want {
			return w.fail(fmt.Errorf("newc: write %q: has %d of its %d names", l.name, l.names, l.want))
		}
	}
	if err := w.emit(&Header{Name: trailer, NLink: 1}); err != nil {
		return err
	}
	if pad := Padding(w.n); pad > 0 {
		if _, err := w.w.Write(make([]byte, pad)); err != nil {
			return w.fail(fmt.Errorf("newc: write trailer: %w", err))
		}
	}
	w.err = ErrClosed
	return nil
}

func (w *Writer) fail(err error) error {
	w.err = err
	return err
}

func (w *Writer) complete() error {
	if w.left > 0 {
		return fmt.Errorf("newc: write %q: %d bytes of its size are missing", w.name, w.left)
	}
	return nil
}

func (w *Writer) addLink(h *Header) error {
	l := w.links[h.link()]
	if l == nil {
		if w.links == nil {
			w.links = map[linkKey]*linkSet{}
		}
		l = &linkSet{name: h.Name, want: h.NLink}
		w.links[h.link()] = l
	}
	l.names++
	switch {
	case h.NLink != l.want:
		return fmt.Errorf("link count %d, but %q, the same file, has %d", h.NLink, l.name, l.want)
	case l.names > l.want:
		return fmt.Errorf("is name %d of %q, a file with %d", l.names, l.name, l.want)
	case h.Type() == TypeSymlink:
		return errors.New("a symbolic link with several names: the kernel makes one of each")
	case h.Size > 0 && l.data:
		return fmt.Errorf("data stands under another name of %q already", l.name)
	}
	l.data = l.data || h.Size > 0
	return nil
}

// emit writes the padding of the entry before, and h with its name and padding.
func (w *Writer) emit(h *Header) error {
	b := w.buf[:0]
	for range Padding(w.n) {
		b = append(b, 0)
	}
	start := len(b)
	b = append(b, "070701"...)
	for _, v := range [...]uint32{
		h.Ino, h.Mode, h.UID, h.GID, h.NLink, h.MTime, uint32(h.Size),
		h.DevMajor, h.DevMinor, h.RDevMajor, h.RDevMinor, uint32(len(h.Name) + 1), 0,
	} {
		b = appendHex(b, v)
	}
	b = append(b, h.Name...)
	b = append(b, 0)
	for range Padding(int64(len(b) - start)) {
		b = append(b, 0)
	}
	w.buf = b
	n, err := w.w.Write(b)
	w.n += int64(n)
	if err != nil {
		return w.fail(fmt.Errorf("newc: write header of %q: %w", h.Name, err))
	}
	return nil
}

func appendHex(b []byte, v uint32) []byte {
	const digits = "0123456789ABCDEF"
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, digits[v>>shift&15])
	}
	return b
}
