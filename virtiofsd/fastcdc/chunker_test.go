package fastcdc

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/zeebo/blake3"
)

func newChunker(t testing.TB, average int) *Chunker {
	t.Helper()
	sizes, err := NewSizes(average)
	if err != nil {
		t.Fatal(err)
	}
	return NewChunker(sizes)
}

// hashes is the 2 MiB of spec/store.md 8.
func hashes() []byte {
	b := make([]byte, 0, 2<<20)
	for i := range uint64(65536) {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, i))
		b = append(b, sum[:]...)
	}
	return b
}

// ramp is the 1044480 bytes of spec/store.md 8.
func ramp() []byte {
	one := make([]byte, 255)
	for i := range one {
		one[i] = byte(i)
	}
	return bytes.Repeat(one, 4096)
}

// split writes data in steps of step bytes and returns the chunks.
func split(t testing.TB, c *Chunker, data []byte, step int) [][]byte {
	t.Helper()
	var chunks [][]byte
	s := NewSplitter(c, nil, func(chunk []byte) error {
		chunks = append(chunks, bytes.Clone(chunk))
		return nil
	})
	for rest := data; len(rest) > 0; {
		n := min(step, len(rest))
		if m, err := s.Write(rest[:n]); m != n || err != nil {
			t.Fatalf("Write = %d, %v", m, err)
		}
		if s.Buffered() >= c.Sizes().Max {
			t.Fatalf("%d bytes are held", s.Buffered())
		}
		rest = rest[n:]
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return chunks
}

func lengths(chunks [][]byte) []int {
	l := []int{}
	for _, c := range chunks {
		l = append(l, len(c))
	}
	return l
}

func TestGear(t *testing.T) {
	g := gear()
	for i, want := range map[int]uint64{0: 0x3b5d3c7d207e37dc, 255: 0xaabd2b2a451504e1} {
		if g.plain[i] != want || g.shifted[i] != want<<1 {
			t.Errorf("gear of %d is %#x, %#x", i, g.plain[i], g.shifted[i])
		}
	}
}

// TestVectors has the cuts of spec/store.md 8.
func TestVectors(t *testing.T) {
	c := newChunker(t, DefaultAverage)
	for _, tt := range []struct {
		name        string
		data        []byte
		want        []int
		first, last string
	}{
		{"ramp", ramp(), []int{524288, 520192}, "", ""},
		{"hashes", hashes(), []int{300369, 280185, 223385, 205363, 321680, 319739, 315571, 130860},
			"71e7da987fa54f2c94d96a391fa206b25332cb84fa367c0b5a1dba145c2f2b8c",
			"5b7d1ad7834eb92c261947ffcbeda76fe0661156057aeccb5dd9b9c8b16226db"},
		{"empty", nil, []int{}, "", ""},
		{"one byte", []byte{7}, []int{1}, "", ""},
		{"the shortest", make([]byte, 131072), []int{131072}, "", ""},
	} {
		for _, step := range []int{1 << 30, 4096, 131071, 600_000} {
			chunks := split(t, c, tt.data, step)
			if got := lengths(chunks); !slices.Equal(got, tt.want) {
				t.Errorf("%s in steps of %d: chunks %v, want %v", tt.name, step, got, tt.want)
				continue
			}
			if tt.first == "" {
				continue
			}
			for i, want := range map[int]string{0: tt.first, len(chunks) - 1: tt.last} {
				if got := fmt.Sprintf("%x", blake3.Sum256(chunks[i])); got != want {
					t.Errorf("%s: chunk %d has the digest %s, want %s", tt.name, i, got, want)
				}
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for _, bad := range []int{-1, 0, MinAverage - 1, MaxAverage + 1} {
		if s, err := NewSizes(bad); err == nil {
			t.Errorf("NewSizes(%d) = %v", bad, s)
		}
	}
	for _, good := range []int{MinAverage, 257, 1000, 65536, MaxAverage} {
		c := newChunker(t, good)
		if c.early == 0 || c.late == 0 || c.early == c.late {
			t.Errorf("average %d: masks %#x and %#x", good, c.early, c.late)
		}
		checkChunks(t, c, hashes()[:300_000])
	}
}

// checkChunks holds what is true of the chunks of any data.
func checkChunks(t *testing.T, c *Chunker, data []byte) {
	t.Helper()
	chunks := split(t, c, data, len(data)+1)
	if !bytes.Equal(slices.Concat(chunks...), data) {
		t.Error("the chunks do not make up the data")
	}
	for i, chunk := range chunks {
		last := i == len(chunks)-1
		if len(chunk) == 0 || len(chunk) > c.Sizes().Max || !last && len(chunk) < c.Sizes().Min&^1 {
			t.Errorf("average %d: chunk %d of %d has %d bytes", c.Sizes().Average, i, len(chunks), len(chunk))
		}
	}
}

// TestShift holds what chunks are for: bytes put in front change few of them.
func TestShift(t *testing.T) {
	c := newChunker(t, 4096)
	data := hashes()
	known := map[string]bool{}
	before := split(t, c, data, 1<<20)
	for _, chunk := range before {
		known[string(chunk)] = true
	}
	fresh := 0
	for _, chunk := range split(t, c, append([]byte("in front"), data...), 1<<20) {
		if !known[string(chunk)] {
			fresh++
		}
	}
	if fresh > 5 {
		t.Errorf("%d of %d chunks change when bytes are put in front", fresh, len(before))
	}
}

func TestReceiverFails(t *testing.T) {
	broken := errors.New("broken")
	s := NewSplitter(newChunker(t, MinAverage), nil, func([]byte) error { return broken })
	if _, err := s.Write(make([]byte, 10_000)); !errors.Is(err, broken) {
		t.Errorf("Write: %v", err)
	}
	if _, err := s.Write(nil); !errors.Is(err, broken) {
		t.Errorf("second Write: %v", err)
	}
	if err := s.Close(); !errors.Is(err, broken) {
		t.Errorf("Close: %v", err)
	}
	s = NewSplitter(newChunker(t, MinAverage), nil, func([]byte) error { return nil })
	if err := errors.Join(s.Close()); err != nil {
		t.Error(err)
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("Write after Close succeeds")
	}
}

func FuzzSplitter(f *testing.F) {
	seed := hashes()[:20_000]
	f.Add(seed, uint16(4096), uint16(256))
	f.Add(seed[:300], uint16(1), uint16(999))
	f.Add(make([]byte, 5000), uint16(77), uint16(1024))
	f.Add([]byte{}, uint16(1), uint16(300))
	f.Fuzz(func(t *testing.T, data []byte, step, average uint16) {
		if average < MinAverage || step == 0 {
			average, step = max(average, MinAverage), max(step, 1)
		}
		c := newChunker(t, int(average))
		checkChunks(t, c, data)
		whole := lengths(split(t, c, data, len(data)+1))
		if parts := lengths(split(t, c, data, int(step))); !slices.Equal(whole, parts) {
			t.Errorf("chunks %v in one write, %v in writes of %d", whole, parts, step)
		}
	})
}

// BenchmarkSplit is beside the BLAKE3 of the same bytes, which every store has
// to compute anyway.
func BenchmarkSplit(b *testing.B) {
	data := bytes.Repeat(hashes(), 4)
	b.Run("fastcdc", func(b *testing.B) {
		c := newChunker(b, DefaultAverage)
		buf := make([]byte, 0, 2*c.Sizes().Max)
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			s := NewSplitter(c, buf, func([]byte) error { return nil })
			if _, err := s.Write(data); err != nil {
				b.Fatal(err)
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("blake3", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			blake3.Sum256(data)
		}
	})
}
