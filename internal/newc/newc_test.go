package newc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
)

type entry struct {
	Header
	data string
}

// sample has an entry of each kind, and a file of three names.
func sample() []entry {
	link := func(name, data string) entry {
		return entry{Header{Name: name, Mode: TypeRegular | 0o600, NLink: 3, Ino: 7, Size: int64(len(data))}, data}
	}
	return []entry{
		{Header{Name: "dev", Mode: TypeDirectory | 0o755, NLink: 2, Ino: 1}, ""},
		{Header{Name: "dev/console", Mode: TypeChar | 0o600, NLink: 1, Ino: 2, RDevMajor: 5, RDevMinor: 1}, ""},
		{Header{Name: "etc", Mode: TypeDirectory | 0o755, NLink: 2, Ino: 3}, ""},
		{Header{Name: "etc/odd name ü", Mode: TypeRegular | 0o644, NLink: 1, Ino: 4, MTime: 1, Size: 5}, "12345"},
		{Header{Name: "etc/empty", Mode: TypeRegular | 0o4755, NLink: 1, Ino: 5}, ""},
		{Header{Name: "etc/link", Mode: TypeSymlink | 0o777, NLink: 1, Ino: 6, Size: 8}, "odd name"},
		link("h1", ""), link("h2", ""), link("h3", "shared"),
		{Header{Name: "pipe", Mode: TypeFIFO | 0o600, UID: 12, GID: 34, NLink: 1, Ino: 8}, ""},
	}
}

func archive(t testing.TB, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readAll(r *Reader) ([]entry, error) {
	var out []entry
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return out, err
		}
		out = append(out, entry{*h, string(data)})
	}
}

func TestRoundTrip(t *testing.T) {
	a := archive(t, sample())
	if len(a)%Align != 0 {
		t.Errorf("segment of %d bytes: the next one would be out of place", len(a))
	}
	for _, gap := range []int{0, 4, 5, 510} {
		twice := append(append(append([]byte{}, a...), make([]byte, gap)...), a...)
		r := NewReader(bytes.NewReader(twice))
		got, err := readAll(r)
		if gap%Align != 0 {
			if err == nil || !strings.Contains(err.Error(), "multiple of 4") {
				t.Errorf("gap %d: error %v", gap, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("gap %d: %v", gap, err)
		}
		if want := append(sample(), sample()...); !reflect.DeepEqual(got, want) {
			t.Errorf("gap %d: got %v, want %v", gap, got, want)
		}
		if r.Segment() != 1 || r.Offset() != int64(len(twice)) {
			t.Errorf("gap %d: segment %d, offset %d", gap, r.Segment(), r.Offset())
		}
	}
}

func TestWhatFollows(t *testing.T) {
	b := bufio.NewReader(io.MultiReader(bytes.NewReader(archive(t, sample())), strings.NewReader("\x00\x00\x00\x00\x1f\x8brest")))
	r := NewReader(b)
	if got, err := readAll(r); !errors.Is(err, ErrNoSegment) || len(got) != len(sample()) {
		t.Fatalf("%d entries, error %v", len(got), err)
	}
	if rest, _ := io.ReadAll(b); string(rest) != "\x1f\x8brest" {
		t.Errorf("left %q", rest)
	}
}

func TestSkippedData(t *testing.T) {
	r := NewReader(bytes.NewReader(archive(t, sample())))
	var names []string
	for {
		h, err := r.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name)
	}
	if len(names) != len(sample()) {
		t.Errorf("names %q", names)
	}
}

func TestTruncation(t *testing.T) {
	a := archive(t, sample())
	for n := range len(a) {
		if _, err := readAll(NewReader(bytes.NewReader(a[:n]))); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("%d of %d bytes: error %v, want unexpected EOF", n, len(a), err)
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	good := string(archive(t, []entry{{Header{Name: "file", Mode: TypeRegular | 0o644, Size: 4}, "data"}}))
	field := func(i int, v string) string { return good[:6+8*i] + v + good[14+8*i:] }
	tests := []struct{ name, archive, err string }{
		{"old format", "070707" + good[6:], "cpio -H newc"},
		{"other magic", "070703" + good[6:], "magic"},
		{"not hexadecimal", field(3, "0000000g"), "field 3"},
		{"sign", field(3, "-0000001"), "field 3"},
		{"no name", field(11, "00000000"), "name of 0 bytes"},
		{"empty name", good[:110] + "\x00" + good[111:], "name is empty"},
		{"long name", field(11, "00001001"), "name of 4097 bytes"},
		{"huge name", field(11, "FFFFFFFF"), "name of 4294967295 bytes"},
		{"no NUL", field(11, "00000004"), "no NUL"},
		{"long target", field(1, "0000A1FF")[:54] + "00001000" + good[62:], "target"},
		{"directory with data", field(1, "000041ED"), "data of 4 bytes"},
		{"bad checksum", "070702" + good[6:], "checksum"},
		{"not an archive", "hello", "no archive"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := readAll(NewReader(strings.NewReader(tt.archive))); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
	// 'd'+'a'+'t'+'a' = 0x19A
	sum := "070702" + good[6:102] + "0000019A" + good[110:]
	if got, err := readAll(NewReader(strings.NewReader(sum))); err != nil || len(got) != 1 {
		t.Errorf("right checksum: %v", err)
	}
}

func TestWriterRefuses(t *testing.T) {
	file := func(name string) Header { return Header{Name: name, Mode: TypeRegular | 0o644} }
	one := func(h Header) []any { return []any{h} }
	sized := func(mode uint32, size int64) Header { return Header{Name: "x", Mode: mode, Size: size} }
	linked := func(name string, n uint32, size int64) Header {
		return Header{Name: name, Mode: TypeRegular, NLink: n, Ino: 1, Size: size}
	}
	tests := []struct {
		name string
		do   []any // headers, and strings to write; then Close
		err  string
	}{
		{"empty name", one(file("")), "name is empty"},
		{"NUL", one(file("a\x00b")), "NUL"},
		{"absolute", one(file("/a")), "absolute"},
		{"parent", one(file("a/../b")), `".."`},
		{"only parent", one(file("..")), `".."`},
		{"root", one(file(".")), "shortest"},
		{"slash at the end", one(file("a/")), "shortest"},
		{"double slash", one(file("a//b")), "shortest"},
		{"trailer", one(file("TRAILER!!!")), "end mark"},
		{"long name", one(file(strings.Repeat("n", 4096))), "4096 bytes"},
		{"4 GiB", one(sized(TypeRegular, 1<<32)), "4 GiB"},
		{"negative", one(sized(TypeRegular, -1)), "4 GiB"},
		{"no type", one(sized(0o644, 0)), "no file type"},
		{"large mode", one(sized(1<<16|TypeRegular, 0)), "16 bits"},
		{"link to nothing", one(sized(TypeSymlink, 0)), "target of 0 bytes"},
		{"long target", one(sized(TypeSymlink, 4096)), "target of 4096 bytes"},
		{"directory with data", one(sized(TypeDirectory, 1)), "data"},
		{"too much data", []any{file("a"), "x"}, "1 bytes more"},
		{"missing data", []any{sized(TypeRegular, 3), "xy", file("b")}, "1 bytes of its size are missing"},
		{"missing at the end", one(sized(TypeRegular, 3)), "3 bytes of its size are missing"},
		{"missing name", one(linked("a", 2, 0)), "1 of its 2 names"},
		{"too many names", []any{linked("a", 2, 0), linked("b", 2, 0), linked("c", 2, 0)}, "name 3"},
		{"other count", []any{linked("a", 2, 0), linked("b", 3, 0)}, "link count 3"},
		{"data twice", []any{linked("a", 2, 1), "x", linked("b", 2, 1), "x"}, "another name"},
		{"data without entry", []any{"x"}, "1 bytes more"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := NewWriter(io.Discard)
			var first error
			for _, d := range tt.do {
				var err error
				switch d := d.(type) {
				case Header:
					err = w.WriteHeader(&d)
				case string:
					_, err = io.WriteString(w, d)
				}
				if first == nil {
					first = err
				}
			}
			err := w.Close()
			if first == nil {
				first = err
			}
			if first == nil || !strings.Contains(first.Error(), tt.err) {
				t.Fatalf("error %v, want %q", first, tt.err)
			}
			// The error is final.
			h := file("ok")
			if err := w.WriteHeader(&h); !errors.Is(err, first) {
				t.Errorf("WriteHeader after it: %v", err)
			}
			if err := w.Close(); !errors.Is(err, first) {
				t.Errorf("Close after it: %v", err)
			}
		})
	}
}

// limited fails after n bytes.
type limited struct{ n int }

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.n {
		return 0, errors.New("disk is full")
	}
	l.n -= len(p)
	return len(p), nil
}

func TestWriteErrorIsFinal(t *testing.T) {
	w := NewWriter(&limited{200})
	var err error
	for i := 0; err == nil && i < 9; i++ {
		err = w.WriteHeader(&Header{Name: fmt.Sprint(i), Mode: TypeRegular})
	}
	if err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Fatal(err)
	}
	if got := w.Close(); got != err {
		t.Errorf("Close: %v", got)
	}
	w = NewWriter(io.Discard)
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	if err := w.WriteHeader(&Header{Name: "late", Mode: TypeRegular}); !errors.Is(err, ErrClosed) {
		t.Errorf("WriteHeader after Close: %v", err)
	}
}

// TestAgainstLibrary has another reader read what we write.
func TestAgainstLibrary(t *testing.T) {
	r := cpio.NewReader(bytes.NewReader(archive(t, sample())))
	for _, want := range sample() {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("%s: %v", want.Name, err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if want.Type() == TypeSymlink {
			data = []byte(h.Linkname) // the library reads it with the header
		}
		if h.Name != want.Name || uint32(h.Mode) != want.Mode || string(data) != want.data || h.Inode != int64(want.Ino) || h.Links != int(want.NLink) {
			t.Errorf("got %+v with %q, want %+v", h, data, want)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("end: %v", err)
	}
}

// TestAgainstCPIO has GNU cpio list and unpack what we write, and reads what it
// makes of that.
func TestAgainstCPIO(t *testing.T) {
	tool, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("SKIP: this machine lacks cpio (apt-get install cpio)")
	}
	run := func(dir string, in []byte, args ...string) string {
		t.Helper()
		cmd := exec.Command(tool, args...)
		cmd.Dir, cmd.Stdin = dir, bytes.NewReader(in)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		if err := cmd.Run(); err != nil {
			t.Fatalf("cpio %v: %v\n%s", args, err, errOut.String())
		}
		return out.String()
	}
	var want, names []string
	var files []entry
	for _, e := range sample() {
		want = append(want, e.Name)
		// Unpacking a device needs privileges.
		if e.Type() != TypeChar {
			e.UID, e.GID = uint32(os.Getuid()), uint32(os.Getgid())
			files = append(files, e)
			names = append(names, e.Name)
		}
	}
	all := archive(t, sample())
	if got := strings.Split(strings.TrimSpace(run(t.TempDir(), all, "--list", "--quiet")), "\n"); !slices.Equal(got, want) {
		t.Errorf("cpio lists %q, want %q", got, want)
	}
	if got := run(t.TempDir(), all, "--list", "--quiet", "--verbose", "dev/console"); !strings.HasPrefix(got, "crw-------") || !strings.Contains(got, "5,   1") {
		t.Errorf("cpio lists the device as %q", got)
	}
	dir := t.TempDir()
	run(dir, archive(t, files), "--extract", "--quiet", "--preserve-modification-time")
	for _, e := range files {
		st, err := os.Lstat(filepath.Join(dir, e.Name))
		if err != nil {
			t.Error(err)
			continue
		}
		if e.hardLinked() {
			if data, _ := os.ReadFile(filepath.Join(dir, e.Name)); string(data) != "shared" {
				t.Errorf("%s holds %q", e.Name, data)
			}
		}
		if e.Type() == TypeRegular && uint32(st.Mode().Perm()) != e.Perm()&0o777 {
			t.Errorf("%s: mode %v, want %#o", e.Name, st.Mode(), e.Mode)
		}
	}
	for _, format := range []string{"newc", "crc"} {
		made := run(dir, []byte(strings.Join(names, "\n")), "--create", "--quiet", "-H", format)
		got, err := readAll(NewReader(strings.NewReader(made)))
		if err != nil {
			t.Fatalf("reading cpio -H %s: %v", format, err)
		}
		read := map[string]entry{}
		for _, e := range got {
			read[e.Name] = e
		}
		shared := read["h1"].data + read["h2"].data + read["h3"].data
		if len(read) != len(files) || shared != "shared" || read["etc/link"].data != "odd name" || read["etc/odd name ü"].data != "12345" {
			t.Errorf("cpio -H %s: read %+v", format, got)
		}
	}
}

func FuzzReader(f *testing.F) {
	a := archive(f, sample())
	f.Add(a)
	f.Add(append(append([]byte{}, a...), a...))
	f.Add(append([]byte("070702"), a[6:]...))
	f.Add([]byte("\x00\x00\x00\x00"))
	if got, err := readAll(NewReader(bytes.NewReader(a))); err != nil || len(got) == 0 {
		f.Fatalf("a seed does not reach the code: %v", err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data))
		got, err := readAll(r)
		if r.Offset() > int64(len(data)) {
			t.Fatalf("offset %d of %d bytes", r.Offset(), len(data))
		}
		if err != nil || r.Segment() > 0 {
			return
		}
		// What the writer takes comes back the same.
		var b bytes.Buffer
		w := NewWriter(&b)
		for i := range got {
			if w.WriteHeader(&got[i].Header) != nil {
				return
			}
			if _, err := io.WriteString(w, got[i].data); err != nil {
				t.Fatal(err)
			}
		}
		if w.Close() != nil {
			return
		}
		again, err := readAll(NewReader(&b))
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if got[i].NLink == 0 {
				got[i].NLink = again[i].NLink
			}
		}
		if !reflect.DeepEqual(got, again) {
			t.Fatalf("got %v, then %v", got, again)
		}
	})
}

// The floor is a copy of the same bytes.
func BenchmarkWriter(b *testing.B) {
	data := bytes.Repeat([]byte("x"), 16<<10)
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		var out bytes.Buffer
		for b.Loop() {
			out.Reset()
			w := NewWriter(&out)
			_ = w.WriteHeader(&Header{Name: "lib/modules/module.ko", Mode: TypeRegular, Size: int64(len(data))})
			_, _ = w.Write(data)
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor-copy", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		var out bytes.Buffer
		for b.Loop() {
			out.Reset()
			_, _ = out.Write(data)
		}
	})
}
