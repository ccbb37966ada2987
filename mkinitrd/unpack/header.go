package unpack

import "storeboot/internal/newc"

const (
	headerSize = 110
	pathMax    = 4096 // with the NUL
)

// header is an entry's header as the kernel reads it: a field that is not
// hexadecimal counts as far as it is.
type header struct {
	newc.Header
	nameSize int64
	sum      uint32
	summed   bool
}

// parse reads the 110 bytes of b, whose magic has been looked at.
func parse(b []byte) header {
	var f [13]uint32
	for i := range f {
		f[i] = number(b[6+8*i : 14+8*i])
	}
	return header{
		Header: newc.Header{
			Ino: f[0], Mode: f[1] & 0xffff, UID: f[2], GID: f[3], NLink: f[4], MTime: f[5], Size: int64(f[6]),
			DevMajor: f[7], DevMinor: f[8], RDevMajor: f[9], RDevMinor: f[10],
		},
		nameSize: int64(f[11]), sum: f[12], summed: b[5] == '2',
	}
}

// number reads hexadecimal digits up to something else, after "0x" if that is
// there.
func number(b []byte) uint32 {
	if len(b) > 2 && b[0] == '0' && b[1]|0x20 == 'x' {
		if _, ok := digit(b[2]); ok {
			b = b[2:]
		}
	}
	var v uint32
	for _, c := range b {
		d, ok := digit(c)
		if !ok {
			break
		}
		v = v<<4 | d
	}
	return v
}

func digit(c byte) (uint32, bool) {
	switch {
	case c >= '0' && c <= '9':
		return uint32(c - '0'), true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return uint32(c|0x20-'a') + 10, true
	}
	return 0, false
}

// nameRoom is the bytes from the end of the header to the data.
func (h *header) nameRoom() int64 { return h.nameSize + int64(newc.Padding(headerSize+h.nameSize)) }
