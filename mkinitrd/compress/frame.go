package compress

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// frame reads the bytes of one zstd frame and not one more, so that what
// follows stays in r. It knows the frame's outline only (RFC 8878, 3.1.1): the
// header's length, the blocks' lengths, and the checksum.
type frame struct {
	r        *bufio.Reader
	left     int // of the part that is being passed on
	started  bool
	last     bool // the last block's header has been seen
	checksum int  // bytes of it still to come
}

const (
	blockHeader   = 3
	blockRLE      = 1 // one byte, repeated
	blockReserved = 3
)

func (f *frame) Read(p []byte) (int, error) {
	for f.left == 0 {
		if err := f.nextPart(); err != nil {
			return 0, err
		}
	}
	n, err := f.r.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, noEOF(err)
}

// nextPart sets left to the length of the next part; io.EOF is the frame's end.
func (f *frame) nextPart() error {
	switch {
	case !f.started:
		return f.header()
	case f.last && f.checksum > 0:
		f.left, f.checksum = f.checksum, 0
		return nil
	case f.last:
		return io.EOF
	}
	b, err := f.r.Peek(blockHeader)
	if err != nil {
		return noEOF(err)
	}
	v := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
	size := v >> 3
	switch v >> 1 & 3 {
	case blockRLE:
		size = 1
	case blockReserved:
		return errors.New("block of a reserved type")
	}
	f.last = v&1 == 1
	f.left = blockHeader + size
	return nil
}

// whole says whether the frame has been read to its end.
func (f *frame) whole() bool { return f.last && f.left == 0 && f.checksum == 0 }

// header finds the header's length: magic, descriptor, and the window,
// dictionary and size fields that the descriptor announces.
func (f *frame) header() error {
	b, err := f.r.Peek(5)
	if err != nil {
		return noEOF(err)
	}
	if binary.LittleEndian.Uint32(b) != 0xfd2fb528 {
		return errors.New("not a zstd frame")
	}
	d := b[4]
	single := d>>5&1 == 1
	f.left = 5 + [4]int{0, 1, 2, 4}[d&3] + [4]int{0, 2, 4, 8}[d>>6]
	if !single {
		f.left++
	} else if d>>6 == 0 {
		f.left++ // a size of one byte
	}
	if d>>2&1 == 1 {
		f.checksum = 4
	}
	f.started = true
	return nil
}
