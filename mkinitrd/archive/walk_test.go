package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"storeboot/internal/newc"
	"storeboot/mkinitrd/compress"
)

// segment is an archive of files, packed; data is their name again.
func segment(t testing.TB, c compress.Codec, names ...string) string {
	t.Helper()
	var b bytes.Buffer
	z, err := compress.NewWriter(&b, c, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := newc.NewWriter(z)
	for _, n := range names {
		if err := w.WriteHeader(&newc.Header{Name: n, Mode: newc.TypeRegular | 0o644, Size: int64(len(n))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// list walks an image and returns what it saw: "0/0 none name".
func list(image string) (string, []*Segment, error) {
	var seen []string
	segments, err := Walk(strings.NewReader(image), func(e Entry) error {
		data, err := io.ReadAll(e.Data)
		if err != nil {
			return err
		}
		if string(data) != e.Name {
			return fmt.Errorf("%s has data %q", e.Name, data)
		}
		seen = append(seen, fmt.Sprintf("%d/%d %s %s", e.Segment.Number, e.Archive, e.Segment.Codec, e.Name))
		return nil
	})
	return strings.Join(seen, "; "), segments, err
}

func TestWalk(t *testing.T) {
	raw, zst, gz := segment(t, compress.None, "kernel/x86/microcode/x"), segment(t, compress.Zstd, "a", "b"), segment(t, compress.Gzip, "c")
	two := segment(t, compress.None, "d") + "\x00\x00\x00\x00" + segment(t, compress.None, "e")
	tests := []struct{ name, image, want, err string }{
		{"one", zst, "0/0 zstd a; 0/0 zstd b", ""},
		{"early, then main", raw + zst, "0/0 none kernel/x86/microcode/x; 1/1 zstd a; 1/1 zstd b", ""},
		{"zeros between", raw + strings.Repeat("\x00", 508) + gz + "\x00\x00\x00" + zst + "\x00", "0/0 none kernel/x86/microcode/x; 1/1 gzip c; 2/2 zstd a; 2/2 zstd b", ""},
		{"raw ones are apart", two + gz, "0/0 none d; 1/1 none e; 2/2 gzip c", ""},
		{"raw out of place", gz + "\x00\x00" + two, "0/0 gzip c", "multiple of 4"},
		{"junk", gz + "junk", "0/0 gzip c", fmt.Sprintf("segment 1, at byte %d: ", len(gz))},
		{"cut", raw + zst[:len(zst)/2], "0/0 none kernel/x86/microcode/x", fmt.Sprintf("segment 1 (zstd, at byte %d)", len(raw))},
		{"cut raw", two[:len(two)-120], "0/0 none d; 1/1 none e", "unexpected EOF"},
		{"no archive in it", "\x1f\x8b" + gz[2:10] + "\x01\x05\x00\xfa\xffhello", "", "segment 0"},
		{"empty", "", "", "unexpected EOF"},
		{"zeros", "\x00\x00\x00\x00", "", "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := list(tt.image)
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestSegments(t *testing.T) {
	raw, zst := segment(t, compress.None, "kernel/x86/microcode/x"), segment(t, compress.Zstd, "a", "b")
	image := raw + strings.Repeat("\x00", 12) + raw + zst
	_, segments, err := list(image)
	if err != nil || len(segments) != 3 {
		t.Fatalf("%v, %v", segments, err)
	}
	unpacked := int64(len(segment(t, compress.None, "a", "b")))
	for i, want := range []Segment{
		{0, 0, compress.None, int64(len(raw)), int64(len(raw)), 1, true},
		{1, int64(len(raw)) + 12, compress.None, int64(len(raw)), int64(len(raw)), 1, true},
		{2, 2*int64(len(raw)) + 12, compress.Zstd, segments[2].Packed, unpacked, 2, false},
	} {
		if *segments[i] != want {
			t.Errorf("segment %d is %+v, want %+v", i, *segments[i], want)
		}
	}
	if p := segments[2].Packed; p <= 0 || p > int64(len(zst)) {
		t.Errorf("packed %d of %d", p, len(zst))
	}
	if _, err := Walk(strings.NewReader(image), func(Entry) error { return ErrStop }); err != nil {
		t.Errorf("stopped: %v", err)
	}
	bad := errors.New("enough")
	if _, err := Walk(strings.NewReader(image), func(Entry) error { return bad }); !errors.Is(err, bad) {
		t.Errorf("visit's error became %v", err)
	}
}

// TestTruncation holds that no cut passes for the end of the image, except
// between segments.
func TestTruncation(t *testing.T) {
	for _, c := range []compress.Codec{compress.None, compress.Gzip, compress.Zstd} {
		first, second := segment(t, compress.None, "first"), segment(t, c, "a", "b")
		whole := strings.TrimRight(second, "\x00") // without the padding behind a stream
		if c == compress.None {
			whole = second
		}
		image := first + whole
		for n := len(first) + 1; n < len(image); n++ {
			if got, _, err := list(image[:n]); err == nil {
				t.Fatalf("%s: %d of %d bytes: no error, and %s", c, n, len(image), got)
			}
		}
	}
}

func FuzzWalk(f *testing.F) {
	for _, c := range compress.Codecs() {
		s := segment(f, c, "a", "b")
		if got, _, err := list(s); err != nil || got == "" {
			f.Fatalf("a seed does not reach the code: %v", err)
		}
		f.Add([]byte(s + "\x00\x00\x00\x00" + segment(f, compress.None, "c")))
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		n := 0
		segments, err := Walk(bytes.NewReader(image), func(e Entry) error {
			if n++; n > 1000 {
				return ErrStop
			}
			_, err := io.Copy(io.Discard, e.Data)
			return err
		})
		if err == nil && n > 0 && len(segments) == 0 {
			t.Error("entries of no segment")
		}
	})
}
