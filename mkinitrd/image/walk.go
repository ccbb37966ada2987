package image

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"storeboot/internal/newc"
	"storeboot/mkinitrd/compress"
)

// maxUnpacked is how much a file may unpack to: an initramfs lies in memory.
const maxUnpacked = 64 << 30

// Found is an entry of a file that is read.
type Found struct {
	*newc.Header
	Segment int            // from 0
	Codec   compress.Codec // of the segment
	Data    io.Reader      // valid until the next entry
}

// Walk calls visit for every entry of all segments of the initramfs that r
// reads, in their order, as the kernel unpacks them. An error of visit ends it
// and is returned; [ErrStop] ends it without one.
func Walk(r io.Reader, visit func(Found) error) error {
	br := bufio.NewReaderSize(r, 64<<10)
	err := walk(br, visit)
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}

// ErrStop is returned by the function of a [Walk] that has seen enough.
var ErrStop = errors.New("stop")

func walk(br *bufio.Reader, visit func(Found) error) error {
	segment := 0
	for {
		err := skipZeros(br)
		if errors.Is(err, io.EOF) && segment > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		z, codec, err := compress.NewReader(br)
		if err != nil {
			return fmt.Errorf("segment %d: %w", segment, err)
		}
		// br itself, if nothing is compressed: what follows is to stay in it.
		var r io.Reader = br
		if codec != compress.None {
			r = &limit{r: z, left: maxUnpacked}
		}
		count, err := archive(r, codec, segment, visit)
		if cerr := z.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("segment %d: %w", segment, err)
		}
		segment += count
	}
}

// archive reads the archives of one compressed segment, or all that are not
// compressed up to a compressed one, and returns how many they were.
func archive(z io.Reader, codec compress.Codec, first int, visit func(Found) error) (int, error) {
	n := newc.NewReader(z)
	for {
		h, err := n.Next()
		switch {
		case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF),
			errors.Is(err, newc.ErrNoSegment) && codec == compress.None:
			return n.Segment() + 1, nil
		case err != nil:
			return 0, err
		}
		if err := visit(Found{Header: h, Segment: first + n.Segment(), Codec: codec, Data: n}); err != nil {
			return 0, err
		}
	}
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
}

func (l *limit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("unpacks to more than %d GiB", maxUnpacked>>30)
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}
