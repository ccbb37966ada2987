package blobpack

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
)

func digest(i int) castore.Digest {
	return blake3.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
}

// counting counts reads.
type counting struct {
	*bytes.Reader
	reads int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	c.reads++
	return c.Reader.ReadAt(p, off)
}

// TestFind looks for what is there and what is not in indexes of several sizes,
// and holds that a lookup costs few reads however many blobs there are.
func TestFind(t *testing.T) {
	for _, n := range []int{0, 1, 2, window - 1, window, window + 1, 3 * window, 1000, 100_000} {
		var entries []entry
		for i := range n {
			entries = append(entries, entry{digest(2 * i), int64(i), 1})
		}
		b := encodeIndex(entries, int64(n))
		r := &counting{bytes.NewReader(append(make([]byte, n), b...)), 0}
		x, err := openIndex(r, r.Size())
		if err != nil {
			t.Fatal(err)
		}
		memory, err := x.load()
		if err != nil {
			t.Fatal(err)
		}
		r.reads = 0
		looked := 0
		for i := 0; i < 2*n; i += max(1, n/5000) {
			looked++
			at, e, ok, err := x.find(digest(i))
			if err != nil || ok != (i%2 == 0) || ok && (e.offset != int64(i/2) || entries[at].digest != e.digest) {
				t.Fatalf("%d of %d: %d, %+v, %v, %v", i, n, at, e, ok, err)
			}
			if k := search(memory, digest(i)); k != at {
				t.Fatalf("%d of %d: entry %d, in memory %d", i, n, at, k)
			}
		}
		for _, d := range []castore.Digest{{}, {0, 1}, castore.Digest(bytes.Repeat([]byte{255}, 32))} {
			if at, _, ok, err := x.find(d); ok || err != nil || at != search(memory, d) {
				t.Errorf("%x in %d: %d, %v, %v", d, n, at, ok, err)
			}
		}
		if looked > 0 && r.reads > 4*looked {
			t.Errorf("%d blobs: %d reads for %d lookups", n, r.reads, looked)
		}
	}
}

// TestFindUneven has digests that are not spread: the same first bytes in all,
// and all but one at one end.
func TestFindUneven(t *testing.T) {
	var entries []entry
	for i := range 5000 {
		d := castore.Digest{7, 7, 7, 7, 7, 7, 7, 7}
		binary.BigEndian.PutUint32(d[10:], uint32(2*i))
		entries = append(entries, entry{d, int64(i), 1})
	}
	entries = append(entries, entry{castore.Digest(bytes.Repeat([]byte{255}, 32)), 5000, 1})
	b := encodeIndex(entries, 5001)
	r := &counting{bytes.NewReader(append(make([]byte, 5001), b...)), 0}
	x, err := openIndex(r, r.Size())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10_000 {
		d := castore.Digest{7, 7, 7, 7, 7, 7, 7, 7}
		binary.BigEndian.PutUint32(d[10:], uint32(i))
		if _, e, ok, err := x.find(d); err != nil || ok != (i%2 == 0) || ok && e.offset != int64(i/2) {
			t.Fatalf("%d: %+v, %v, %v", i, e, ok, err)
		}
	}
	if r.reads > 10_000*25 {
		t.Errorf("%d reads for 10,000 lookups", r.reads)
	}
}

// FuzzIndex opens files as packs and looks into them: what is found lies in the
// contents, and nothing panics.
func FuzzIndex(f *testing.F) {
	var entries []entry
	for i := range 200 {
		entries = append(entries, entry{digest(i), int64(i), 1})
	}
	good := append(make([]byte, 200), encodeIndex(entries, 200)...)
	f.Add(good, 3)
	f.Add(good[1:], 3)
	f.Add(append(make([]byte, 5), encodeIndex([]entry{{digest(1), 1 << 62, 5}}, 5)...), 1)
	f.Add(append(make([]byte, 5), encodeIndex([]entry{{digest(1), 0, 6}}, 5)...), 1)
	f.Add(encodeIndex(nil, 0), 0)
	huge := bytes.Clone(good)
	huge[len(huge)-48] = 255
	f.Add(huge, 1)
	f.Fuzz(func(t *testing.T, b []byte, i int) {
		x, err := openIndex(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		_, e, ok, err := x.find(digest(i))
		if ok && (err != nil || e.offset < 0 || e.size < 0 || e.offset+e.size > int64(len(b))) {
			t.Errorf("%+v, %v", e, err)
		}
		if memory, err := x.load(); err == nil {
			search(memory, digest(i))
		}
	})
}
