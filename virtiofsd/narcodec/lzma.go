package narcodec

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

const lzipMagic = "LZIP"

// The lengths of what is around the stream of a member of an lzip file, in bytes
// (draft-diaz-lzip, 2): magic, version and size of the dictionary; CRC-32, length
// of the data, length of the member.
const (
	lzipHeader  = 4 + 1 + 1
	lzipTrailer = 4 + 8 + 8
)

var errDictionary = fmt.Errorf("a dictionary of more than %d bytes", MaxWindow)

// readLZMA reads the format that xz has replaced: a header with the size of the
// dictionary, and one stream.
func readLZMA(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(lzma.HeaderLen)
	if err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(head[1:]) > MaxWindow {
		return nil, errDictionary
	}
	d, err := lzma.NewReader(b)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(d), nil
}

// lzip reads the members of an lzip file.
type lzip struct {
	in     countedBytes
	stream *lzma.Reader // of the member; nil between two
	crc    uint32       // of its data
	size   uint64
	began  uint64 // where in the file it did
}

func readLzip(r io.Reader) (io.ReadCloser, error) {
	z := &lzip{in: countedBytes{r: bufio.NewReader(r)}}
	if err := z.begin(); err != nil {
		return nil, err
	}
	return io.NopCloser(z), nil
}

// begin reads the header of a member.
func (z *lzip) begin() error {
	z.began = z.in.n
	var h [lzipHeader]byte
	if _, err := io.ReadFull(&z.in, h[:]); err != nil {
		return err
	}
	if string(h[:4]) != lzipMagic || h[4] != 1 {
		return errors.New("a member does not begin as one of version 1")
	}
	if h[5]&31 < 12 || h[5]&31 > 29 {
		return errors.New("the size of a dictionary is not from 4 KiB to 512 MiB")
	}
	size := uint32(1) << (h[5] & 31)
	size -= size / 16 * uint32(h[5]>>5)
	if size > MaxWindow {
		return errDictionary
	}
	// As a header of the older format: lc 3, lp 0, pb 2, and a mark at the end.
	head := binary.LittleEndian.AppendUint32([]byte{(2*5+0)*9 + 3}, size)
	head = append(head, bytes.Repeat([]byte{0xff}, 8)...)
	stream, err := lzma.NewReader(&headed{head: head, countedBytes: &z.in})
	if err != nil {
		return err
	}
	z.stream, z.crc, z.size = stream, 0, 0
	return nil
}

func (z *lzip) Read(p []byte) (int, error) {
	for {
		if z.stream == nil {
			if _, err := z.in.r.Peek(1); err != nil {
				return 0, err // io.EOF is the end
			}
			if err := z.begin(); err != nil {
				return 0, unexpected(err)
			}
		}
		n, err := z.stream.Read(p)
		z.crc = crc32.Update(z.crc, crc32.IEEETable, p[:n])
		z.size += uint64(n)
		if err == io.EOF {
			if err = z.end(); err == nil && n == 0 {
				continue
			}
		}
		return n, err
	}
}

// end reads and compares the trailer of a member.
func (z *lzip) end() error {
	z.stream = nil
	var t [lzipTrailer]byte
	if _, err := io.ReadFull(&z.in, t[:]); err != nil {
		return unexpected(err)
	}
	if binary.LittleEndian.Uint32(t[:]) != z.crc || binary.LittleEndian.Uint64(t[4:]) != z.size || binary.LittleEndian.Uint64(t[12:]) != z.in.n-z.began {
		return errors.New("lzip: a member is not what its end says")
	}
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// countedBytes counts what is read of a buffer.
type countedBytes struct {
	r *bufio.Reader
	n uint64
}

func (c *countedBytes) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += uint64(n)
	return n, err
}

func (c *countedBytes) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// headed is head and then the rest, byte by byte: nothing is read ahead of what
// the decompressor needs.
type headed struct {
	head []byte
	*countedBytes
}

func (h *headed) Read(p []byte) (int, error) {
	if len(h.head) == 0 {
		return h.countedBytes.Read(p)
	}
	n := copy(p, h.head)
	h.head = h.head[n:]
	return n, nil
}

func (h *headed) ReadByte() (byte, error) {
	if len(h.head) == 0 {
		return h.countedBytes.ReadByte()
	}
	b := h.head[0]
	h.head = h.head[1:]
	return b, nil
}
