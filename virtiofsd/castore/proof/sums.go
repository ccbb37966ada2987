package proof

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"

	"storeboot/virtiofsd/castore"
)

const (
	// GroupSize is how many bytes have one sum. Summing them takes some 20 us,
	// and the sums of 1 GiB take 64 KiB.
	GroupSize = 128 << 10
	// WholeSize is up to which size contents are hashed as a whole, in bytes:
	// that takes less than 1 ms, and reading them little more than reading one
	// group.
	WholeSize = 1 << 20
)

const magic = "storeboot sums 1"

// Sums are the sums of the groups of contents.
type Sums struct {
	Size   int64
	Groups []uint64
}

// groups is how many groups contents of size bytes have.
func groups(size int64) int64 { return (size + GroupSize - 1) / GroupSize }

// Summer takes contents in order and makes their sums. The zero value is ready.
type Summer struct {
	sums Sums
	hash *xxhash.Digest // of the group that is not full
	n    int            // bytes in it
}

// Write never fails.
func (s *Summer) Write(p []byte) (int, error) {
	if s.hash == nil {
		s.hash = xxhash.New()
	}
	for rest := p; len(rest) > 0; {
		k := min(len(rest), GroupSize-s.n)
		_, _ = s.hash.Write(rest[:k])
		rest = rest[k:]
		if s.n += k; s.n == GroupSize {
			s.end()
		}
	}
	s.sums.Size += int64(len(p))
	return len(p), nil
}

func (s *Summer) end() {
	s.sums.Groups = append(s.sums.Groups, s.hash.Sum64())
	s.hash.Reset()
	s.n = 0
}

// Sums ends the contents.
func (s *Summer) Sums() Sums {
	if s.n > 0 {
		s.end()
	}
	return s.sums
}

// Encode is the file of sums of the contents with the digest d.
func (s Sums) Encode(d castore.Digest) []byte {
	b := make([]byte, 0, fileSize(s.Size))
	b = append(b, magic...)
	b = append(b, d[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Size))
	for _, sum := range s.Groups {
		b = binary.LittleEndian.AppendUint64(b, sum)
	}
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b))
}

// fileSize is the size of the file of sums of contents of size bytes.
func fileSize(size int64) int64 {
	return int64(len(magic)) + castore.DigestSize + 8 + 8*groups(size) + 8
}

var errSums = errors.New("the file of sums is damaged or of something else")

// Decode reads the file of sums of the contents with this digest and size.
// Whatever else r holds is an error, of which nothing is kept in memory.
func Decode(r io.Reader, d castore.Digest, size int64) (Sums, error) {
	b := make([]byte, fileSize(size)+1)
	n, err := io.ReadFull(r, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return Sums{}, fmt.Errorf("read sums: %w", err)
	}
	if n != len(b)-1 {
		return Sums{}, errSums
	}
	b = b[:n]
	body, sum := b[:n-8], binary.LittleEndian.Uint64(b[n-8:])
	if xxhash.Sum64(body) != sum {
		return Sums{}, errSums
	}
	head := Sums{Size: size}.Encode(d)
	head = head[:len(head)-8]
	if !bytes.HasPrefix(body, head) {
		return Sums{}, errSums
	}
	s := Sums{Size: size, Groups: make([]uint64, groups(size))}
	for i := range s.Groups {
		s.Groups[i] = binary.LittleEndian.Uint64(body[len(head)+8*i:])
	}
	return s, nil
}
