package superblock

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
)

// FS is what a superblock says.
type FS struct {
	Type  string // as mount(2) takes it
	UUID  string // in lower case, with four dashes; "" if the type has none
	Label string // "" if there is none
}

// ErrUnknown says that no file system of this package is there.
var ErrUnknown = errors.New("no file system that is known")

// Offsets of superblocks in bytes.
const (
	extAt   = 1024
	btrfsAt = 64 << 10
	// size is that of the largest part that is read.
	size = 1024
)

// Probe reads what file system is on r. A disk that is too short for a
// superblock does not have it; other errors of reading are returned.
func Probe(r io.ReaderAt) (FS, error) {
	head, err := read(r, 0)
	if err != nil {
		return FS{}, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("XFSB")):
		return FS{"xfs", uuid(head[32:]), label(head[108:120])}, nil
	case bytes.HasPrefix(head, []byte("hsqs")):
		return FS{Type: "squashfs"}, nil
	}
	block, err := read(r, extAt)
	if err != nil {
		return FS{}, err
	}
	le := binary.LittleEndian
	switch {
	case le.Uint16(block[56:]) == 0xEF53:
		return FS{extType(le.Uint32(block[92:]), le.Uint32(block[96:])), uuid(block[104:]), label(block[120:136])}, nil
	case le.Uint32(block) == 0xE0F5E1E2:
		return FS{"erofs", uuid(block[48:]), label(block[64:80])}, nil
	}
	if block, err = read(r, btrfsAt); err != nil {
		return FS{}, err
	}
	if string(block[64:72]) == "_BHRfS_M" {
		return FS{"btrfs", uuid(block[32:]), label(block[299 : 299+256])}, nil
	}
	return FS{}, ErrUnknown
}

// read returns size bytes at off; what is beyond the end is zero.
func read(r io.ReaderAt, off int64) ([]byte, error) {
	buf := make([]byte, size)
	if _, err := r.ReadAt(buf, off); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return buf, nil
}

// extType tells the three by their features: a journal is ext3, and one that
// ext3 does not have is ext4.
func extType(compat, incompat uint32) string {
	const (
		journal   = 0x4                    // compatible
		ext3Knows = 0x2 | 0x4 | 0x8 | 0x10 // incompatible: filetype, recover, journal device, meta_bg
	)
	switch {
	case incompat&^uint32(ext3Knows) != 0:
		return "ext4"
	case compat&journal != 0:
		return "ext3"
	}
	return "ext2"
}

func uuid(b []byte) string {
	if bytes.Equal(b[:16], make([]byte, 16)) {
		return ""
	}
	s := hex.EncodeToString(b[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func label(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}
