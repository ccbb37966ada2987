package compress

import (
	"bytes"
	"fmt"
	"strings"
)

// Codec is a compression.
type Codec string

const (
	None Codec = "none"
	Gzip Codec = "gzip"
	Zstd Codec = "zstd" // a kernel of 5.9 or later
)

// Codecs for those who have a reason: xz unpacks many times slower than zstd,
// for a few percent; lz4 unpacks fast, and is of the legacy format (lz4 -l)
// alone, since the kernel knows no other.
const (
	XZ  Codec = "xz"
	LZ4 Codec = "lz4"
)

// Codecs that are read, not written.
const (
	LZMA  Codec = "lzma" // the format before xz
	Bzip2 Codec = "bzip2"
)

// LZO is recognised only: the kernel reads it, no library here does.
const LZO Codec = "lzo"

// Default is the codec for an image that is kept: the smallest of those that
// take no noticeable time. For one that a VM reads from the page cache, [None]
// boots as fast.
const Default = Zstd

// Codecs are all codecs, the default first.
func Codecs() []Codec { return []Codec{Zstd, Gzip, LZ4, XZ, None} }

// Parse returns the codec of that name; the error names all of them.
func Parse(name string) (Codec, error) {
	var all []string
	for _, c := range Codecs() {
		if string(c) == name {
			return c, nil
		}
		all = append(all, string(c))
	}
	return "", fmt.Errorf("unknown compression %q: want %s", name, strings.Join(all, ", "))
}

// Levels returns the smallest and the largest level of the codec, and the one
// that stands for 0. The codec none has only level 0.
func (c Codec) Levels() (lowest, highest, preset int) {
	switch c {
	case Zstd:
		return 1, 22, 3
	case Gzip:
		return 1, 9, 6
	case LZ4:
		return 1, 9, 1
	}
	return 0, 0, 0
}

// CheckLevel says whether the codec has the level; 0 is its default.
func (c Codec) CheckLevel(level int) error {
	lowest, highest, _ := c.Levels()
	if level == 0 || level >= lowest && level <= highest {
		return nil
	}
	if highest == 0 {
		return fmt.Errorf("level %d: compression %s has no levels", level, c)
	}
	return fmt.Errorf("level %d: compression %s has levels %d to %d", level, c, lowest, highest)
}

// magics are how a segment begins; the codecs that are only recognised have
// names that Parse does not know.
var magics = []struct {
	magic []byte
	codec Codec
}{
	{[]byte("0707"), None},
	{[]byte{0x1f, 0x8b}, Gzip},
	{[]byte{0x1f, 0x9e}, Gzip},
	{[]byte{0x28, 0xb5, 0x2f, 0xfd}, Zstd},
	{[]byte("\xfd7zXZ\x00"), XZ},
	{[]byte{0x5d, 0x00}, LZMA},
	{[]byte("BZh"), Bzip2},
	{[]byte{0x02, 0x21, 0x4c, 0x18}, LZ4},
	{[]byte{0x89, 'L', 'Z', 'O'}, LZO},
}

// maxMagic is how many bytes Detect looks at.
const maxMagic = 6

// Detect says by its first bytes what a segment is compressed with. It knows
// all that the kernel may, which is more than [Codecs]; "" is none of them.
func Detect(head []byte) Codec {
	for _, m := range magics {
		if bytes.HasPrefix(head, m.magic) {
			return m.codec
		}
	}
	return ""
}

// isCut says whether head, which is all there is, may be the beginning of a
// segment.
func isCut(head []byte) bool {
	for _, m := range magics {
		if len(head) < len(m.magic) && bytes.HasPrefix(m.magic, head) {
			return true
		}
	}
	return false
}
