package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"storeboot/internal/newc"
	"storeboot/mkinitrd/compress"
)

// MaxUnpacked is how much an initrd may unpack to, in bytes.
const MaxUnpacked = 64 << 30

// Segment is one archive that is not compressed, or one compressed stream.
type Segment struct {
	Number   int            `json:"number"` // from 0
	Offset   int64          `json:"offset"` // in the file, bytes
	Codec    compress.Codec `json:"compression"`
	Packed   int64          `json:"packed"`   // bytes in the file, without the padding behind it
	Unpacked int64          `json:"unpacked"` // bytes of the archive
	Entries  int            `json:"entries"`
	// Early says that the kernel reads it before it unpacks any: it holds CPU
	// microcode or ACPI tables.
	Early bool `json:"early,omitempty"`
}

// String names the segment in messages.
func (s *Segment) String() string {
	return fmt.Sprintf("segment %d (%s, at byte %d)", s.Number, s.Codec, s.Offset)
}

// Entry is an entry of an image that is read.
type Entry struct {
	*newc.Header
	// Segment is complete when the walk is in a later one.
	Segment *Segment
	// Archive counts the archives of the image from 0: names of one file
	// belong together within one.
	Archive int
	Data    io.Reader // valid until the next entry
}

// ErrStop is returned by the function of a [Walk] that has seen enough.
var ErrStop = errors.New("stop")

// Walk calls visit for every entry of all segments, in the order in which the
// kernel unpacks them, and returns the segments. An error of visit ends it and
// is returned; [ErrStop] ends it without one. With an error, the segments are
// those seen so far.
func Walk(r io.Reader, visit func(Entry) error) ([]*Segment, error) {
	w := walker{visit: visit, in: &counter{r: r}, left: MaxUnpacked}
	w.br = bufio.NewReaderSize(w.in, 64<<10)
	err := w.walk()
	if errors.Is(err, ErrStop) {
		err = nil
	}
	return w.segments, err
}

type walker struct {
	visit    func(Entry) error
	in       *counter
	br       *bufio.Reader
	left     int64 // may still be unpacked
	segments []*Segment
	archives int // begun
}

// offset is how far the file has been consumed.
func (w *walker) offset() int64 { return w.in.n - int64(w.br.Buffered()) }

func (w *walker) walk() error {
	for {
		err := skipZeros(w.br)
		if errors.Is(err, io.EOF) && len(w.segments) > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		at := w.offset()
		z, codec, err := compress.NewReader(w.br)
		if err != nil {
			return fmt.Errorf("segment %d, at byte %d: %w", len(w.segments), at, err)
		}
		if codec == compress.None {
			err = w.raw(at)
		} else {
			err = w.packed(z, codec, at)
		}
		if cerr := z.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
}

func (w *walker) begin(at int64, c compress.Codec) *Segment {
	s := &Segment{Number: len(w.segments), Offset: at, Codec: c}
	w.segments = append(w.segments, s)
	return s
}

// raw reads archives that are not compressed, each a segment, up to what is
// none.
func (w *walker) raw(at int64) error {
	if at%newc.Align != 0 {
		return fmt.Errorf("segment %d, at byte %d: not compressed, and not at a multiple of %d, where the kernel looks for it", len(w.segments), at, newc.Align)
	}
	n := newc.NewReader(w.br)
	var s *Segment
	archive := -1
	for {
		h, err := n.Next()
		end := isEnd(err) || errors.Is(err, newc.ErrNoSegment)
		if s != nil && (end || n.Segment() != archive) {
			s.Packed = at + n.ArchiveEnd() - s.Offset
			s.Unpacked = s.Packed
		}
		if end {
			return nil
		}
		if s == nil || n.Segment() != archive {
			s, archive = w.begin(at+n.HeaderOffset(), compress.None), n.Segment()
			w.archives++
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		if err := w.entry(s, h, n); err != nil {
			return err
		}
		if w.left -= h.Size; w.left < 0 {
			return tooMuch(s)
		}
	}
}

// packed reads the archives of a compressed stream.
func (w *walker) packed(z io.Reader, c compress.Codec, at int64) error {
	s := w.begin(at, c)
	in := &limit{r: z, left: w.left, s: s}
	n := newc.NewReader(in)
	first := w.archives
	for {
		h, err := n.Next()
		if isEnd(err) {
			break
		}
		if errors.Is(err, newc.ErrNoSegment) {
			return fmt.Errorf("%s: at byte %d of what it unpacks to is no archive", s, n.Offset())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		w.archives = first + n.Segment() + 1
		if err := w.entry(s, h, n); err != nil {
			return err
		}
	}
	w.left = in.left
	s.Unpacked, s.Packed = n.Offset(), w.offset()-at
	return nil
}

func (w *walker) entry(s *Segment, h *newc.Header, data io.Reader) error {
	s.Entries++
	if s.Codec == compress.None && isEarly(h.Name) {
		s.Early = true
	}
	return w.visit(Entry{Header: h, Segment: s, Archive: w.archives - 1, Data: data})
}

// isEarly says whether the kernel looks for the name before it unpacks:
// arch/x86/kernel/cpu/microcode, drivers/acpi/tables.c.
func isEarly(name string) bool {
	name = strings.TrimPrefix(name, "./")
	return strings.HasPrefix(name, "kernel/x86/microcode/") || strings.HasPrefix(name, "kernel/firmware/acpi/")
}

func isEnd(err error) bool {
	return errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)
}

// skipZeros passes the padding between segments; io.EOF is the end.
func skipZeros(br *bufio.Reader) error {
	for {
		b, err := br.Peek(1)
		if err != nil {
			return err
		}
		if b[0] != 0 {
			return nil
		}
		_, _ = br.Discard(1)
	}
}

// limit ends what unpacks to more than any machine holds.
type limit struct {
	r    io.Reader
	left int64
	s    *Segment
}

func (l *limit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, tooMuch(l.s)
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

func tooMuch(s *Segment) error {
	return fmt.Errorf("%s: the initrd unpacks to more than %d GiB", s, MaxUnpacked>>30)
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
