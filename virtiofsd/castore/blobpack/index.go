package blobpack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
)

const (
	magic      = "storeboot pack 1"
	entrySize  = castore.DigestSize + 16
	footerSize = int64(len(magic)) + 16 + 32
)

// entry is where a blob lies in its pack.
type entry struct {
	digest       castore.Digest
	offset, size int64
}

// encodeIndex is the index and the footer of a pack with contents of that many
// bytes. It sorts entries.
func encodeIndex(entries []entry, contents int64) []byte {
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.digest[:], b.digest[:]) })
	b := make([]byte, 0, len(entries)*entrySize+int(footerSize))
	for _, e := range entries {
		b = append(b, e.digest[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(e.offset))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.size))
	}
	sum := blake3.Sum256(b)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(entries)))
	b = binary.LittleEndian.AppendUint64(b, uint64(contents))
	return append(b, sum[:]...)
}

// index finds entries in the index of a pack.
type index struct {
	r        io.ReaderAt
	count    int
	contents int64 // bytes before the index
	sum      [32]byte
}

var errIndex = errors.New("its index is damaged")

// openIndex reads the footer of a pack of size bytes.
func openIndex(r io.ReaderAt, size int64) (index, error) {
	var b [footerSize]byte
	if size < footerSize {
		return index{}, fmt.Errorf("it has %d bytes: %w", size, io.ErrUnexpectedEOF)
	}
	if _, err := r.ReadAt(b[:], size-footerSize); err != nil {
		return index{}, err
	}
	if string(b[:len(magic)]) != magic {
		return index{}, errors.New("it does not end as a pack does")
	}
	rest := b[len(magic):]
	count, contents := binary.LittleEndian.Uint64(rest), binary.LittleEndian.Uint64(rest[8:])
	if contents > uint64(size) || count > uint64(size)/entrySize || contents+count*entrySize+uint64(footerSize) != uint64(size) {
		return index{}, fmt.Errorf("%w: %d blobs of %d bytes are not in a file of %d", errIndex, count, contents, size)
	}
	return index{r, int(count), int64(contents), [32]byte(rest[16:])}, nil
}

// load returns the whole index, proved.
func (x index) load() ([]byte, error) {
	b := make([]byte, x.count*entrySize)
	if err := x.read(b, 0); err != nil {
		return nil, err
	}
	if blake3.Sum256(b) != x.sum {
		return nil, errIndex
	}
	return b, nil
}

// read fills b with entries from the number i on.
func (x index) read(b []byte, i int) error {
	n, err := x.r.ReadAt(b, x.contents+int64(i)*entrySize)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// decode checks that the blob lies in the contents.
func (x index) decode(b []byte) (entry, error) {
	e := entry{
		digest: castore.Digest(b),
		offset: int64(binary.LittleEndian.Uint64(b[32:])),
		size:   int64(binary.LittleEndian.Uint64(b[40:])),
	}
	if e.offset < 0 || e.size < 0 || e.offset > x.contents || e.size > x.contents-e.offset {
		return entry{}, errIndex
	}
	return e, nil
}

// window is how many entries find reads at once.
const window = 64

// find looks for d. The number is that of the first entry not before d.
func (x index) find(d castore.Digest) (i int, e entry, ok bool, err error) {
	// The entries before lo are before d, those from hi on are not. Their
	// places are guessed from the first 8 bytes, between the known ends.
	lo, hi := 0, x.count
	low, high := uint64(0), ^uint64(0)
	want := binary.BigEndian.Uint64(d[:])
	var buf [window * entrySize]byte
	for tries := 0; lo < hi; tries++ {
		at := lo + (hi-lo)/2
		if tries < 8 { // not spread evenly: by halves
			at = lo + int(float64(want-low)/(float64(high-low)+1)*float64(hi-lo))
		}
		from := max(lo, min(at, hi-1)-window/2)
		to := min(hi, from+window)
		b := buf[:(to-from)*entrySize]
		if err := x.read(b, from); err != nil {
			return 0, entry{}, false, err
		}
		k := search(b, d)
		switch {
		case k == 0 && from > lo && !bytes.Equal(b[:castore.DigestSize], d[:]):
			hi, high = from, max(binary.BigEndian.Uint64(b), want)
		case k == to-from && to < hi:
			lo, low = to, min(binary.BigEndian.Uint64(b[len(b)-entrySize:]), want)
		default:
			return x.match(b, k, from, d)
		}
	}
	return lo, entry{}, false, nil
}

// search is the number of the first entry of b not before d.
func search(b []byte, d castore.Digest) int {
	return sort.Search(len(b)/entrySize, func(i int) bool {
		return bytes.Compare(b[i*entrySize:i*entrySize+castore.DigestSize], d[:]) >= 0
	})
}

// match says whether the entry k of b, which begins with the entry from, is d.
func (x index) match(b []byte, k, from int, d castore.Digest) (int, entry, bool, error) {
	if k*entrySize == len(b) || !bytes.Equal(b[k*entrySize:k*entrySize+castore.DigestSize], d[:]) {
		return from + k, entry{}, false, nil
	}
	e, err := x.decode(b[k*entrySize:])
	return from + k, e, err == nil, err
}
