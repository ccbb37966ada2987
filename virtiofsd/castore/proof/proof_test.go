package proof

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

// counting counts what is read.
type counting struct {
	io.ReaderAt
	bytes int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.bytes += n
	return n, err
}

// TestProve holds that a read costs the groups it touches, once, and that damage
// in them is found, and only that.
func TestProve(t *testing.T) {
	for _, size := range []int64{1, GroupSize, GroupSize + 1, 40*GroupSize - 3} {
		content := castoretest.Pattern(int(size), 1)
		sums, err := Whole(bytes.NewReader(content), size, castore.Digest(blake3.Sum256(content)))
		if err != nil || sums.Size != size || int64(len(sums.Groups)) != groups(size) {
			t.Fatalf("%d bytes: %d sums, %v", size, len(sums.Groups), err)
		}
		var s Summer
		for rest := content; len(rest) > 0; {
			n := min(len(rest), 10_001)
			_, _ = s.Write(rest[:n])
			rest = rest[n:]
		}
		if got := s.Sums(); !bytes.Equal(got.Encode(castore.Digest{}), sums.Encode(castore.Digest{})) {
			t.Errorf("%d bytes: other sums in pieces", size)
		}
		r := &counting{bytes.NewReader(content), 0}
		p := New(sums)
		for range 2 {
			if err := p.Prove(r, size-1, 100); err != nil {
				t.Error(err)
			}
		}
		if want := (size-1)%GroupSize + 1; int64(r.bytes) != want {
			t.Errorf("%d bytes: %d were read for the last one, want %d", size, r.bytes, want)
		}
		for range 2 {
			if err := p.Prove(r, 0, size); err != nil || int64(r.bytes) != size {
				t.Errorf("%d bytes: %d were read, %v", size, r.bytes, err)
			}
		}
		damaged := bytes.Clone(content)
		damaged[size-1] ^= 1
		p = New(sums)
		if err := p.Prove(bytes.NewReader(damaged), size-1, 1); !errors.Is(err, castore.ErrDamaged) {
			t.Errorf("%d bytes: a flipped bit: %v", size, err)
		}
		if err := p.Prove(bytes.NewReader(content[:size-1]), 0, size); !errors.Is(err, castore.ErrDamaged) {
			t.Errorf("%d bytes: cut: %v", size, err)
		}
		if size > GroupSize {
			if err := p.Prove(bytes.NewReader(damaged), 0, 1); err != nil {
				t.Errorf("%d bytes: a group that is whole: %v", size, err)
			}
		}
		for _, part := range [][2]int64{{size, 1}, {size + GroupSize, 5}, {0, 0}, {-1, 1}} {
			if err := p.Prove(bytes.NewReader(nil), part[0], part[1]); err != nil {
				t.Errorf("%d bytes: %d beyond at %d: %v", size, part[1], part[0], err)
			}
		}
		if err := Small(bytes.NewReader(damaged), size, castore.Digest(blake3.Sum256(content))); !errors.Is(err, castore.ErrDamaged) {
			t.Errorf("%d bytes: Small: %v", size, err)
		}
	}
}

// TestWholeSmall holds that both ways of hashing agree.
func TestWholeSmall(t *testing.T) {
	for _, size := range []int64{0, 1, GroupSize, 3*GroupSize + 1} {
		content := castoretest.Pattern(int(size), 2)
		d := castore.Digest(blake3.Sum256(content))
		_, err := Whole(bytes.NewReader(content), size, d)
		if err = errors.Join(err, Small(bytes.NewReader(content), size, d)); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// FuzzDecode has files of sums, all for contents of three groups: one that is
// taken is the one that its sums make.
func FuzzDecode(f *testing.F) {
	const size = 2*GroupSize + 1
	d := castore.Digest{1}
	good := Sums{size, []uint64{1, 2, 3}}.Encode(d)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append(good, 0))
	f.Add(Sums{size, []uint64{1, 2, 3}}.Encode(castore.Digest{2}))
	f.Add(Sums{size - 1, []uint64{1, 2, 3}}.Encode(d))
	f.Add(bytes.Repeat([]byte{0}, len(good)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(bytes.NewReader(b), d, size)
		if err == nil && !bytes.Equal(s.Encode(d), b) {
			t.Errorf("%x is taken for %+v", b, s)
		}
	})
}

func TestDecode(t *testing.T) {
	d := castore.Digest{1}
	for _, size := range []int64{1, GroupSize, 10 * GroupSize} {
		s := Sums{size, make([]uint64, groups(size))}
		got, err := Decode(bytes.NewReader(s.Encode(d)), d, size)
		if err != nil || got.Size != size || len(got.Groups) != len(s.Groups) {
			t.Errorf("%d bytes: %+v, %v", size, got, err)
		}
		if _, err := Decode(bytes.NewReader(s.Encode(d)), d, size+GroupSize); err == nil {
			t.Errorf("%d bytes: taken for more", size)
		}
	}
}

// BenchmarkProve is what a first read costs above the read itself: proving by
// sums, and by the digest, beside reading.
func BenchmarkProve(b *testing.B) {
	for _, size := range []int64{4 << 10, 64 << 10, 64 << 20} {
		content := castoretest.Pattern(int(size), 1)
		d := castore.Digest(blake3.Sum256(content))
		r := bytes.NewReader(content)
		sums, err := Whole(r, size, d)
		if err != nil {
			b.Fatal(err)
		}
		name := map[int64]string{4 << 10: "4K", 64 << 10: "64K", 64 << 20: "64M"}[size]
		buf := make([]byte, min(size, 1<<20))
		b.Run("floor=read/"+name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				for off := int64(0); off < size; off += int64(len(buf)) {
					_, _ = r.ReadAt(buf, off)
				}
			}
		})
		b.Run("sums/"+name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				if err := New(sums).Prove(r, 0, size); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("digest/"+name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				if err := Small(r, size, d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
