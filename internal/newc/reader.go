package newc

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// ErrNoSegment says that what follows the last segment is neither zero padding
// nor another segment: in an initramfs, a compressed one. The [Reader] leaves
// its first byte unread.
var ErrNoSegment = errors.New("newc: no archive here")

// Reader reads the segments of a stream that is not compressed, as the kernel
// does: one after the other, with any number of zero bytes between them.
type Reader struct {
	r       *bufio.Reader
	off     int64 // bytes consumed
	left    int64 // of the current entry's data
	pad     int   // that follow it
	size    int64
	crc     bool // the entry has a checksum
	want    uint32
	sum     uint32
	segment int  // number of the current one, from 0
	inside  bool // between a segment's first header and its trailer
	name    string
	header  int64 // where the current entry's header begins
	end     int64 // where the last trailer ends
	err     error
	fixed   [headerSize]byte
	long    []byte
}

// NewReader returns a Reader of r. If r is a [bufio.Reader], of at least 4096
// bytes, nothing is read from it beyond what belongs to the segments, and a
// caller may go on with it after [ErrNoSegment].
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReader(r), segment: -1} }

// Segment is the number of the segment that the last entry was in, from 0.
func (r *Reader) Segment() int { return max(r.segment, 0) }

// HeaderOffset is where the header of the last entry begins.
func (r *Reader) HeaderOffset() int64 { return r.header }

// ArchiveEnd is where the last segment that has been read to its end ends,
// without the zero bytes behind it.
func (r *Reader) ArchiveEnd() int64 { return r.end }

// Offset is the number of bytes consumed.
func (r *Reader) Offset() int64 { return r.off }

// Next goes to the next entry, past what is unread of this one. Its error is
// io.EOF behind the last segment, [ErrNoSegment] if something else follows it,
// io.ErrUnexpectedEOF (wrapped) if the input ends inside a segment, and others
// say what is wrong where. An error is final.
//
// Names are as they stand in the archive: they may be absolute or hold "..",
// and entries may be repeated.
func (r *Reader) Next() (*Header, error) {
	if r.err != nil {
		return nil, r.err
	}
	h, err := r.next()
	if err != nil {
		r.err = err
		return nil, err
	}
	return h, nil
}

func (r *Reader) next() (*Header, error) {
	if _, err := io.Copy(io.Discard, entryData{r}); err != nil {
		return nil, err
	}
	for {
		if !r.inside {
			if err := r.findSegment(); err != nil {
				return nil, err
			}
		}
		r.header = r.off
		h, err := r.readHeader()
		if err != nil {
			return nil, fmt.Errorf("newc: entry at byte %d: %w", r.header, err)
		}
		if h.Name != trailer {
			return h, nil
		}
		if err := r.skipPadding(); err != nil {
			return nil, fmt.Errorf("newc: trailer: %w", err)
		}
		r.inside = false
		r.end = r.off
	}
}

// findSegment skips zero bytes up to the next segment.
func (r *Reader) findSegment() error {
	for {
		b, err := r.r.Peek(1)
		switch {
		case errors.Is(err, io.EOF) && r.segment < 0 && r.off == 0:
			return fmt.Errorf("newc: empty input: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return err
		case b[0] == 0:
			_, _ = r.r.Discard(1)
			r.off++
		case b[0] != '0':
			return ErrNoSegment
		case r.off%Align != 0:
			return fmt.Errorf("newc: segment at byte %d: the kernel wants it at a multiple of %d", r.off, Align)
		default:
			r.segment++
			r.inside = true
			return nil
		}
	}
}

func (r *Reader) readHeader() (*Header, error) {
	b := r.fixed[:]
	if err := r.readFull(b); err != nil {
		return nil, err
	}
	switch string(b[:6]) {
	case "070701":
		r.crc = false
	case "070702":
		r.crc = true
	case "070707":
		return nil, errors.New("old cpio format (070707): the kernel reads newc (cpio -H newc)")
	default:
		return nil, fmt.Errorf("magic %q is not newc's", b[:6])
	}
	var f [13]uint32
	for i := range f {
		var v [4]byte
		if _, err := hex.Decode(v[:], b[6+8*i:14+8*i]); err != nil {
			return nil, fmt.Errorf("field %d is %q, not 8 hexadecimal digits", i, b[6+8*i:14+8*i])
		}
		f[i] = uint32(v[0])<<24 | uint32(v[1])<<16 | uint32(v[2])<<8 | uint32(v[3])
	}
	h := &Header{
		Ino: f[0], Mode: f[1], UID: f[2], GID: f[3], NLink: f[4], MTime: f[5], Size: int64(f[6]),
		DevMajor: f[7], DevMinor: f[8], RDevMajor: f[9], RDevMinor: f[10],
	}
	nameSize := int64(f[11])
	if nameSize == 0 || nameSize > maxName+1 {
		return nil, fmt.Errorf("name of %d bytes: the kernel takes 1 to %d", nameSize, maxName+1)
	}
	n := int(nameSize) + Padding(headerSize+nameSize)
	if cap(r.long) < n {
		r.long = make([]byte, n)
	}
	name := r.long[:n]
	if err := r.readFull(name); err != nil {
		return nil, err
	}
	// Padding within the name field is allowed (it serves to align data), so
	// the name ends at the first NUL.
	name = name[:nameSize]
	if name[len(name)-1] != 0 {
		return nil, errors.New("name has no NUL at its end")
	}
	for i, c := range name {
		if c == 0 {
			name = name[:i]
			break
		}
	}
	h.Name, r.name = string(name), string(name)
	if h.Name == "" {
		return nil, errors.New("name is empty")
	}
	switch {
	case h.Name == trailer && h.Size > 0:
		return nil, fmt.Errorf("trailer has %d bytes of data", h.Size)
	case h.Name == trailer:
	case h.Type() == TypeSymlink && h.Size > maxName:
		return nil, fmt.Errorf("%q: target of %d bytes, the kernel takes %d", h.Name, h.Size, maxName)
	case h.Type() != TypeSymlink && h.Type() != TypeRegular && h.Size > 0:
		return nil, fmt.Errorf("%q: data of %d bytes, where mode %#o has none", h.Name, h.Size, h.Mode)
	}
	r.left, r.size, r.pad = h.Size, h.Size, Padding(h.Size)
	// The kernel sums regular files only.
	r.crc = r.crc && h.Type() == TypeRegular
	r.want, r.sum = f[12], 0
	return h, nil
}

// Read reads data of the current entry; io.EOF is its end.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := entryData{r}.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// entryData reads the rest of an entry with its padding.
type entryData struct{ r *Reader }

func (d entryData) Read(p []byte) (int, error) {
	r := d.r
	if r.left == 0 {
		if err := r.endData(); err != nil {
			return 0, fmt.Errorf("newc: data of %q: %w", r.name, err)
		}
		return 0, io.EOF
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.r.Read(p)
	r.off += int64(n)
	r.left -= int64(n)
	if r.crc {
		for _, c := range p[:n] {
			r.sum += uint32(c)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
		if r.left > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	if err != nil {
		return n, fmt.Errorf("newc: data of %q: %w", r.name, err)
	}
	return n, nil
}

// endData checks the checksum and passes the padding, once.
func (r *Reader) endData() error {
	if r.crc && r.sum != r.want {
		return fmt.Errorf("checksum is %08X, the archive says %08X", r.sum, r.want)
	}
	r.crc = false
	return r.skipPadding()
}

// skipPadding passes the data's padding. It has to be there even at the end of
// the input, or a following segment would be out of place.
func (r *Reader) skipPadding() error {
	n := r.pad
	if n == 0 {
		return nil
	}
	r.pad = 0
	return r.readFull(r.fixed[:n])
}

func (r *Reader) readFull(b []byte) error {
	n, err := io.ReadFull(r.r, b)
	r.off += int64(n)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
