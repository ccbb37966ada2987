package compress

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// text is some data that compresses, and some that does not.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := []byte("070701")
	for len(b) < n {
		if r.IntN(2) == 0 {
			b = append(b, strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(2000))...)
			continue
		}
		for range r.IntN(2000) {
			b = append(b, byte(r.Uint32()))
		}
	}
	return b[:n]
}

func pack(t testing.TB, c Codec, level int, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, c, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	for _, c := range Codecs() {
		lowest, highest, _ := c.Levels()
		for _, level := range []int{0, lowest, highest} {
			for _, n := range []int{0, 1, 1000, 300_000} {
				if c == XZ && n > 100_000 && testing.Short() {
					continue // slow
				}
				if c == None && n < 6 {
					continue // too short to be known as an archive
				}
				data := text(max(n, 6))[:n]
				packed := pack(t, c, level, data)
				if len(packed)%4 != 0 {
					t.Errorf("%s %d: %d bytes, not padded", c, level, len(packed))
				}
				rest := append([]byte{}, packed...)
				if c != None {
					rest = append(rest, "0707the next"...)
				}
				br := bufio.NewReader(bytes.NewReader(rest))
				r, got, err := NewReader(br)
				if err != nil || got != c {
					t.Fatalf("%s %d: codec %s, %v", c, level, got, err)
				}
				back, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(bytes.TrimRight(back, "\x00"), bytes.TrimRight(data, "\x00")) {
					t.Errorf("%s %d: %d bytes came back as %d: %v", c, level, n, len(back), err)
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				if c == None {
					continue
				}
				if next, _ := io.ReadAll(br); strings.TrimLeft(string(next), "\x00") != "0707the next" {
					t.Errorf("%s %d, %d bytes: what follows is %q", c, level, n, next)
				}
			}
		}
	}
}

// TestSameBytes holds that nothing but the input shapes the output.
func TestSameBytes(t *testing.T) {
	for _, c := range Codecs() {
		data := text(1 << 20)
		if c == XZ {
			data = data[:1<<16] // its encoder is slow, the more so under the race detector
		}
		want := pack(t, c, 0, data)
		before := runtime.GOMAXPROCS(1)
		one := pack(t, c, 0, data)
		runtime.GOMAXPROCS(max(before, 4))
		four := pack(t, c, 0, data)
		runtime.GOMAXPROCS(before)
		if !bytes.Equal(want, one) || !bytes.Equal(want, four) {
			t.Errorf("%s: the bytes depend on the number of processors", c)
		}
		var b bytes.Buffer
		w, err := NewWriter(&b, c, 0)
		if err != nil {
			t.Fatal(err)
		}
		for rest := data; len(rest) > 0; {
			n := min(777, len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(want, b.Bytes()) {
			t.Errorf("%s: the bytes depend on the sizes of the writes", c)
		}
	}
}

// TestZstdLength holds that a frame of whatever length is a multiple of 4 in
// itself, with nothing behind it.
func TestZstdLength(t *testing.T) {
	seen := map[int]bool{}
	data := text(1 << 18)
	for n := range 64 {
		for _, d := range [][]byte{data[:n], data[:n*4000]} {
			b := pack(t, Zstd, 0, d)
			if len(b)%align != 0 {
				t.Errorf("%d bytes: a frame of %d", len(d), len(b))
			}
			// The last block, without data, and the checksum; before it others.
			end := len(b) - endOfFrame
			blocks := 0
			for ; blocks < 3 && bytes.Equal(b[end-3*blocks-3:end-3*blocks], []byte{0, 0, 0}); blocks++ {
			}
			seen[blocks] = true
			if !bytes.Equal(b[end:end+3], []byte{1, 0, 0}) {
				t.Errorf("%d bytes: the frame ends with % x", len(d), b[end:])
			}
			r, err := zstd.NewReader(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if back, err := io.ReadAll(r); err != nil || !bytes.Equal(back, d) {
				t.Errorf("%d bytes: %d came back, %v", len(d), len(back), err)
			}
			r.Close()
		}
	}
	if len(seen) != 4 {
		t.Errorf("numbers of blocks without data: %v, want 0 to 3", seen)
	}
}

// TestKernelLimits holds what the kernel's unpackers need of a zstd frame.
func TestKernelLimits(t *testing.T) {
	for _, level := range []int{1, 3, 7, 22} {
		b := pack(t, Zstd, level, bytes.Repeat([]byte("initramfs"), 2<<20))
		if b[4]>>5&1 == 1 {
			t.Errorf("level %d: a single segment, whose window is the whole", level)
			continue
		}
		window := (1 << (10 + b[5]>>3)) * (8 + int(b[5]&7)) / 8
		if window > maxWindow {
			t.Errorf("level %d: window of %d bytes", level, window)
		}
	}
	for _, b := range pack(t, Gzip, 0, []byte("x"))[3:8] {
		if b != 0 {
			t.Error("gzip header has flags or a time")
		}
	}
}

// TestAgainstTools has the usual commands unpack what we pack.
func TestAgainstTools(t *testing.T) {
	data := text(1 << 20)
	for _, c := range []Codec{Zstd, Gzip} {
		tool, err := exec.LookPath(string(c))
		if err != nil {
			t.Logf("SKIP: this machine lacks %s (apt-get install %s)", c, c)
			continue
		}
		packed := pack(t, c, 0, data)
		if c == Gzip { // its padding is zero bytes, of which gzip may speak
			packed = unpadded(t, packed)
		}
		cmd := exec.Command(tool, "-dc")
		cmd.Stdin = bytes.NewReader(packed)
		out, err := cmd.Output()
		if err != nil || !bytes.Equal(out, data) {
			t.Errorf("%s -d: %d bytes, %v", c, len(out), err)
		}
		cmd = exec.Command(tool, "-c")
		cmd.Stdin = bytes.NewReader(data)
		theirs, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		r, _, err := NewReader(bufio.NewReader(bytes.NewReader(theirs)))
		if err != nil {
			t.Fatal(err)
		}
		if back, err := io.ReadAll(r); err != nil || !bytes.Equal(back, data) {
			t.Errorf("reading what %s made: %d bytes, %v", c, len(back), err)
		}
	}
}

// unpadded cuts off what follows the stream.
func unpadded(t *testing.T, packed []byte) []byte {
	t.Helper()
	br := bufio.NewReader(bytes.NewReader(packed))
	r, _, err := NewReader(br)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(br)
	return packed[:len(packed)-len(rest)]
}

func TestTruncation(t *testing.T) {
	for _, c := range []Codec{Zstd, Gzip} {
		packed := unpadded(t, pack(t, c, 0, text(600)))
		for n := range len(packed) {
			r, _, err := NewReader(bufio.NewReader(bytes.NewReader(packed[:n])))
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if err == nil || n >= 5 && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s: %d of %d bytes: error %v, want unexpected EOF", c, n, len(packed), err)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	if _, err := Parse("rar"); err == nil || !strings.Contains(err.Error(), "rar") || !strings.Contains(err.Error(), "zstd") {
		t.Errorf("Parse: %v", err)
	}
	for _, tt := range []struct {
		c     Codec
		level int
	}{{Zstd, 23}, {Zstd, -1}, {Gzip, 10}, {None, 1}, {XZ, 6}, {LZ4, 10}} {
		if _, err := NewWriter(io.Discard, tt.c, tt.level); err == nil || !strings.Contains(err.Error(), string(tt.c)) {
			t.Errorf("%s level %d: %v", tt.c, tt.level, err)
		}
	}
	if _, err := NewWriter(io.Discard, LZMA, 0); err == nil {
		t.Error("a writer of lzma")
	}
	// A frame that asks for a window of 2 GiB: descriptor 0, window 21<<3.
	huge := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 1, 0, 0, 0}
	for name, data := range map[string][]byte{
		"xz": []byte("\xfd7zXZ\x00abc"), "lzo": {0x89, 'L', 'Z', 'O', 0, 0}, "begins with": []byte("hello"), "window": huge,
	} {
		r, _, err := NewReader(bufio.NewReader(bytes.NewReader(data)))
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	data := text(3000)
	for _, c := range Codecs() {
		seed := pack(f, c, 0, data)
		f.Add(seed)
		r, _, err := NewReader(bufio.NewReader(bytes.NewReader(seed)))
		if err != nil {
			f.Fatal(err)
		}
		if back, err := io.ReadAll(r); err != nil || !bytes.HasPrefix(back, data) {
			f.Fatalf("a seed of %s does not reach the code: %v", c, err)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		br := bufio.NewReader(bytes.NewReader(data))
		r, _, err := NewReader(br)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(r, 16<<20))
		_ = r.Close()
	})
}

// The floor is a copy of the same bytes.
func BenchmarkWriter(b *testing.B) {
	data := text(8 << 20)
	for _, c := range []Codec{Zstd, Gzip, None} {
		b.Run(string(c), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			var out bytes.Buffer
			for b.Loop() {
				out.Reset()
				w, err := NewWriter(&out, c, 0)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = w.Write(data)
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(data))/float64(out.Len()), "ratio")
		})
	}
}
