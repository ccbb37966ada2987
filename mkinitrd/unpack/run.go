package unpack

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"

	"storeboot/mkinitrd/compress"
)

// Kernel is what the unpacker depends on.
type Kernel struct {
	// Lacks are the codecs that the kernel was built without; nil: none, or it
	// is not known.
	Lacks []compress.Codec
}

// What the kernel prints, after "Initramfs unpacking failed: "; its decompressors
// have more to say, which stands here as one.
const (
	MsgOldCpio   = "incorrect cpio method used: use -H newc option"
	MsgNoMagic   = "no cpio magic"
	MsgPadding   = "broken padding"
	MsgSum       = "bad data checksum"
	MsgMalformed = "malformed archive"
	MsgJunkIn    = "junk within compressed archive"
	MsgJunkEnd   = "junk at the end of compressed archive"
	MsgInvalid   = "invalid magic at start of compressed archive"
	MsgNoMethod  = "compression method %s not configured"
	MsgDecode    = "the decompressor fails"
)

// Loss is something that the kernel does without a message.
type Loss struct {
	Path    string
	Segment int
	Offset  int64  // of the entry, in the file or in what the segment unpacks to
	Why     string // "its directory /a does not exist"
	Dropped bool   // the file is not there; else it is there, and not as the image says
}

// maxLosses is how many losses are kept.
const maxLosses = 1000

// maxEntries bounds an image; a whole distribution has half of that.
const maxEntries = 1 << 20

// maxNames bounds the bytes of all names and targets.
const maxNames = 256 << 20

// Segment is what the kernel takes for one archive or compressed stream.
type Segment struct {
	Codec   compress.Codec
	Offset  int64
	Entries int
}

// Result is what the kernel makes of an image.
type Result struct {
	Tree *Tree
	// Message is what the kernel prints when it gives up, "" if it reads the
	// image to its end; Cause says more, Offset and Segment where.
	Message string
	Cause   string
	Offset  int64 // in the file
	Segment int
	// Unsure says why the model does not know the rest: a codec that is not
	// read here.
	Unsure   string
	Losses   []Loss
	More     int // losses that are not in Losses
	Segments []Segment
	Data     int64 // bytes of the files
}

// machine is the unpacker's state.
type machine struct {
	kernel  Kernel
	res     *Result
	tree    *Tree
	in      *bufio.Reader
	count   *counter
	fresh   bool // nothing has been unpacked yet
	links   map[linkKey]string
	entries int
	names   int64
	seg     int
}

// Run reads an image as the kernel does. The data of its files goes to spool,
// which the result's tree reads from. An error is one of reading, or of an
// image beyond the limits; what is wrong with the image is in the result.
func Run(image io.Reader, k Kernel, spool *Spool) (*Result, error) {
	tree := newTree(spool)
	c := &counter{r: image}
	m := &machine{
		kernel: k, res: &Result{Tree: tree}, tree: tree, count: c, in: bufio.NewReaderSize(c, 64<<10),
		fresh: true, links: map[linkKey]string{},
	}
	if err := m.run(); err != nil {
		return nil, err
	}
	return m.res, nil
}

// offset is how far the file has been consumed.
func (m *machine) offset() int64 { return m.count.n - int64(m.in.Buffered()) }

func (m *machine) stop(message, cause string) {
	if m.res.Message == "" {
		m.res.Message, m.res.Cause, m.res.Segment = message, cause, m.seg
	}
}

// run goes from segment to segment until something stops it.
func (m *machine) run() error {
	m.seg = -1
	for m.res.Message == "" && m.res.Unsure == "" {
		b, err := m.in.Peek(1)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		at := m.offset()
		m.res.Offset = at
		switch {
		case b[0] == 0:
			_, _ = m.in.Discard(1)
			continue
		case b[0] == '0' && at%4 == 0:
			m.begin(compress.None, at)
			err = m.archives(&source{m: m, r: m.in, pos: at, raw: true})
		default:
			err = m.compressed(at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) begin(c compress.Codec, at int64) {
	m.seg++
	m.res.Segments = append(m.res.Segments, Segment{Codec: c, Offset: at})
}

// compressed unpacks one stream.
func (m *machine) compressed(at int64) error {
	head, err := m.in.Peek(32)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	codec := detect(head)
	m.begin(codec, at)
	switch {
	case codec == "" && head[0] == '0':
		m.stop(MsgInvalid, fmt.Sprintf("what begins at byte %d looks like an archive that is not compressed; the kernel takes those at multiples of 4 only", at))
		return nil
	case codec == "":
		m.stop(MsgInvalid, fmt.Sprintf("what begins at byte %d is neither an archive nor compressed in a way that the kernel knows", at))
		return nil
	case slices.Contains(m.kernel.Lacks, codec):
		m.stop(fmt.Sprintf(MsgNoMethod, codec), "")
		return nil
	}
	if why := refused(codec, head); why != "" {
		m.stop(MsgDecode, why)
		return nil
	}
	if codec == compress.LZO {
		m.res.Unsure = "lzo is not read here, so what is in the segment is not known"
		return nil
	}
	z, _, err := compress.NewReader(m.in)
	if err != nil {
		if m.count.err != nil {
			return m.count.err
		}
		m.stop(MsgDecode, err.Error())
		return nil
	}
	defer z.Close()
	s := &source{m: m, stream: &stream{r: z}}
	s.r = bufio.NewReaderSize(s.stream, 64<<10)
	if err := m.archives(s); err != nil {
		return err
	}
	if m.res.Message == "" {
		// What is left of the stream is its end: padding that was read.
		_, _ = io.Copy(io.Discard, s.r)
	}
	if m.count.err != nil {
		return m.count.err
	}
	switch err := s.stream.err; {
	case err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
	case codec == compress.Gzip && badSum(err):
		m.lose(Loss{Segment: m.seg, Offset: at, Why: "the checksum of the gzip stream is wrong, which the kernel does not look at: the image is damaged"})
	default:
		m.stop(MsgDecode, err.Error())
	}
	if !s.whole {
		m.stop(MsgJunkEnd, "the stream ends inside an entry")
	}
	return nil
}

func (m *machine) lose(l Loss) {
	if len(m.res.Losses) == maxLosses {
		m.res.More++
		return
	}
	m.res.Losses = append(m.res.Losses, l)
}

// counter counts what is read, and keeps the input's own error apart from those
// of a codec.
type counter struct {
	r   io.Reader
	n   int64
	err error
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// stream keeps the error that ends a compressed stream.
type stream struct {
	r   io.Reader
	n   int64
	err error
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.n += int64(n); s.n > 2*MaxData {
		err = fmt.Errorf("the stream unpacks to more than %d GiB, which no machine has room for", 2*MaxData>>30)
	}
	if err != nil {
		s.err = err
		err = io.EOF
	}
	return n, err
}
