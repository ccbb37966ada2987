package narcodec

import (
	"errors"
	"fmt"
	"io"
)

// xzGuard passes an xz file on, and ends with an error in front of a block whose
// dictionary is larger than MaxWindow: the decompressor makes it as large as the
// block says, 4 GiB if need be.
//
// It follows the framing alone (The .xz File Format 1.2.1, 2 to 4; LZMA2 chunks:
// xz-embedded, xz_dec_lzma2.c) and checks nothing else, which is left to the
// decompressor. Where the framing is broken it passes the rest on: what the
// decompressor would take for a block header is one here too.
type xzGuard struct {
	r     io.Reader
	state xzState
	skip  uint64 // bytes that are passed over before state counts
	head  []byte // of what state reads
	check uint64 // length of the check behind each block
	block uint64 // length of the data of the block, or of the index, up to here
	left  uint64 // numbers of the index that are still to come
}

type xzState uint8

const (
	xzStreamHeader xzState = iota // 12 bytes, or 4 of padding
	xzBlockHeader                 // its length, or the indicator of the index
	xzChunk                       // the control byte of an LZMA2 chunk
	xzChunkHeader
	xzIndexCount // how many records the index has
	xzIndexNumber
)

var errXZDictionary = fmt.Errorf("xz: a dictionary of more than %d bytes", MaxWindow)

func (g *xzGuard) Read(p []byte) (int, error) {
	// What is passed on may be behind a header that was not looked at yet, but not
	// behind one that is refused: it is not passed on at all.
	n, err := g.r.Read(p)
	if scanErr := g.scan(p[:n]); scanErr != nil {
		return 0, scanErr
	}
	return n, err
}

// scan follows b.
func (g *xzGuard) scan(b []byte) error {
	for len(b) > 0 {
		if g.skip > 0 {
			n := min(g.skip, uint64(len(b)))
			g.skip -= n
			b = b[n:]
			continue
		}
		g.head = append(g.head, b[0])
		b = b[1:]
		if err := g.step(); err != nil {
			return err
		}
	}
	return nil
}

// step looks at what has been collected of a header.
func (g *xzGuard) step() error {
	next := func(s xzState) { g.state, g.head = s, g.head[:0] }
	h := g.head
	switch g.state {
	case xzStreamHeader:
		if len(h) == 4 && h[0] == 0 {
			next(xzStreamHeader) // padding between streams
		} else if len(h) == 12 {
			g.check = [16]uint64{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[h[7]&15]
			next(xzBlockHeader)
		}
	case xzBlockHeader:
		if h[0] == 0 {
			g.block = 1
			next(xzIndexCount)
		} else if len(h) == 4*(int(h[0])+1) {
			size, err := xzDictionary(h)
			if err != nil {
				return err
			}
			if size > MaxWindow {
				return errXZDictionary
			}
			g.block = 0
			next(xzChunk)
		}
	case xzChunk:
		g.block++
		switch c := h[0]; {
		case c == 0:
			g.skip = -g.block&3 + g.check
			next(xzBlockHeader)
		case c >= 0x80 || c <= 2:
			g.state = xzChunkHeader
		default:
			return errors.New("xz: an LZMA2 chunk of an unknown kind")
		}
	case xzChunkHeader:
		g.block++
		want, data := 3, uint64(0)
		if c := h[0]; c >= 0x80 {
			want = 5
			if c >= 0xc0 {
				want = 6 // with properties
			}
		}
		if len(h) < want {
			return nil
		}
		if h[0] >= 0x80 {
			data = uint64(h[3])<<8 + uint64(h[4]) + 1
		} else {
			data = uint64(h[1])<<8 + uint64(h[2]) + 1
		}
		g.skip = data
		g.block += data
		next(xzChunk)
	case xzIndexCount, xzIndexNumber:
		g.block++
		if h[len(h)-1]&0x80 != 0 && len(h) < 9 {
			return nil
		}
		if g.state == xzIndexCount {
			var count uint64
			for i, b := range h {
				count |= uint64(b&0x7f) << (7 * i)
			}
			g.left = 2 * min(count, 1<<62)
		} else {
			g.left--
		}
		next(xzIndexNumber)
		if g.left == 0 {
			g.skip = -g.block&3 + 4 + 12 // padding, CRC32, footer of the stream
			next(xzStreamHeader)
		}
	}
	return nil
}

// xzDictionary is the size of the dictionary that a block header asks for.
func xzDictionary(h []byte) (uint64, error) {
	bad := errors.New("xz: a block header that is not of LZMA2 alone")
	flags, rest := h[1], h[2:len(h)-4] // the CRC is at the end
	if flags&0x3f != 0 {
		return 0, bad
	}
	for range int(flags>>6&1) + int(flags>>7) { // two lengths, each if it is there
		i := 0
		for i < len(rest) && i < 9 && rest[i]&0x80 != 0 {
			i++
		}
		if i >= len(rest) {
			return 0, bad
		}
		rest = rest[i+1:]
	}
	if len(rest) < 3 || rest[0] != 0x21 || rest[1] != 1 || rest[2] > 40 {
		return 0, bad
	}
	d := uint64(rest[2])
	if d == 40 {
		return 1<<32 - 1, nil
	}
	return (2 | d&1) << (d/2 + 11), nil
}
