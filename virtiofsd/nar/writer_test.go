package nar

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	gonar "github.com/nix-community/go-nix/pkg/nar"
)

// write calls the writer's methods in order and gives back the first error.
func write(w io.Writer, calls ...func(*Writer) error) error {
	n := NewWriter(w)
	for _, call := range calls {
		if err := call(n); err != nil {
			return err
		}
	}
	return n.Close()
}

func directory(n *Writer) error    { return n.Directory() }
func endDirectory(n *Writer) error { return n.EndDirectory() }
func entry(name string) func(*Writer) error {
	return func(n *Writer) error { return n.Entry(name) }
}
func symlink(target string) func(*Writer) error {
	return func(n *Writer) error { return n.Symlink(target) }
}
func file(content string, executable bool) func(*Writer) error {
	return func(n *Writer) error {
		if err := n.File(uint64(len(content)), executable); err != nil {
			return err
		}
		_, err := n.Write([]byte(content))
		return err
	}
}

// The vectors are those of spec/store.md 8.
func TestVectors(t *testing.T) {
	for _, tt := range []struct {
		name  string
		size  int
		hash  string
		calls []func(*Writer) error
	}{
		{"symlink", 136, "097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1",
			[]func(*Writer) error{symlink("/nix/store/somewhereelse")}},
		{"file", 128, "03e7f63be30b065d78bcf615f5473545fdb4eb69aa416f43495b4e05cdfb8040",
			[]func(*Writer) error{file("Hello World!", false)}},
		{"executable", 160, "3b63b97bae149b3e6650437b9077c3d75b130192145792ec94ea3af96a8c567a",
			[]func(*Writer) error{file("Hello World!", true)}},
		{"complicated", 840, "ebd52279a8df024c9fd5718de4103bf5e760dc7f2cf49044ee7dea87ab16911a",
			[]func(*Writer) error{directory,
				entry(".keep"), file("", false),
				entry("aa"), symlink("/nix/store/somewhereelse"),
				entry("keep"), directory, entry(".keep"), file("", false), endDirectory,
				endDirectory}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := write(&b, tt.calls...); err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(b.Bytes())
			if b.Len() != tt.size || hex.EncodeToString(sum[:]) != tt.hash {
				t.Errorf("%d bytes with hash %x, want %d with %s", b.Len(), sum, tt.size, tt.hash)
			}
		})
	}
}

// TestAgainstGoNix reads what the writer wrote with another implementation, for
// files of all lengths around the padding and the buffer.
func TestAgainstGoNix(t *testing.T) {
	var sizes []int
	for _, around := range []int{0, 8, 16, 4096, bufferSize, 2 * bufferSize, 1 << 20} {
		for d := -9; d <= 9; d++ {
			if around+d >= 0 {
				sizes = append(sizes, around+d)
			}
		}
	}
	var b bytes.Buffer
	n := NewWriter(&b)
	if err := n.Directory(); err != nil {
		t.Fatal(err)
	}
	for i, size := range sizes {
		content := bytes.Repeat([]byte{byte(i + 1)}, size)
		if err := errors.Join(n.Entry(fmt.Sprintf("%08d", i)), n.File(uint64(size), i%2 == 0)); err != nil {
			t.Fatal(err)
		}
		for len(content) > 0 {
			k := min(len(content), 10_000)
			if _, err := n.Write(content[:k]); err != nil {
				t.Fatal(err)
			}
			content = content[k:]
		}
	}
	if err := errors.Join(n.EndDirectory(), n.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := gonar.NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if h, err := r.Next(); err != nil || h.Type != gonar.TypeDirectory {
		t.Fatal(h, err)
	}
	for i, size := range sizes {
		h, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Size != int64(size) || h.Executable != (i%2 == 0) || !bytes.Equal(content, bytes.Repeat([]byte{byte(i + 1)}, size)) {
			t.Errorf("file of %d bytes reads as %+v with %d bytes", size, h, len(content))
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	data := func(s string) func(*Writer) error {
		return func(n *Writer) error { _, err := n.Write([]byte(s)); return err }
	}
	begin := func(size uint64) func(*Writer) error {
		return func(n *Writer) error { return n.File(size, false) }
	}
	for _, tt := range []struct {
		name  string
		calls []func(*Writer) error
		err   string
	}{
		{"nothing", nil, "Close is out of order"},
		{"open directory", []func(*Writer) error{directory}, "Close is out of order"},
		{"entry without node", []func(*Writer) error{directory, entry("a"), endDirectory}, "EndDirectory is out of order"},
		{"entry at the root", []func(*Writer) error{entry("a")}, "Entry is out of order"},
		{"two roots", []func(*Writer) error{symlink("a"), symlink("b")}, "Symlink is out of order"},
		{"node without entry", []func(*Writer) error{directory, symlink("a")}, "Symlink is out of order"},
		{"end too many", []func(*Writer) error{directory, endDirectory, endDirectory}, "EndDirectory is out of order"},
		{"data outside of a file", []func(*Writer) error{directory, data("x")}, "Write is out of order"},
		{"short file", []func(*Writer) error{begin(4), data("abc")}, "Close is out of order"},
		{"short file in a directory", []func(*Writer) error{directory, entry("a"), begin(4), data("abc"), entry("b")}, "Entry is out of order"},
		{"long file", []func(*Writer) error{begin(4), data("abc"), data("de")}, "longer than"},
		{"huge file", []func(*Writer) error{begin(1 << 63)}, "too large"},
		{"same name twice", []func(*Writer) error{directory, entry("a"), symlink("x"), entry("a")}, "comes after"},
		{"descending", []func(*Writer) error{directory, entry("b"), symlink("x"), entry("a")}, "comes after"},
		{"empty name", []func(*Writer) error{directory, entry("")}, "not allowed"},
		{"dot", []func(*Writer) error{directory, entry(".")}, "not allowed"},
		{"dot dot", []func(*Writer) error{directory, entry("..")}, "not allowed"},
		{"slash", []func(*Writer) error{directory, entry("a/b")}, "not allowed"},
		{"NUL", []func(*Writer) error{directory, entry("a\x00")}, "not allowed"},
		{"long name", []func(*Writer) error{directory, entry(strings.Repeat("a", 256))}, "not allowed"},
		{"empty target", []func(*Writer) error{symlink("")}, "not allowed"},
		{"long target", []func(*Writer) error{symlink(strings.Repeat("a", 4096))}, "not allowed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := write(io.Discard, tt.calls...); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

type failing struct{ after int }

func (f *failing) Write(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

// TestWriteError holds that an error of the writer below is not lost.
func TestWriteError(t *testing.T) {
	for _, after := range []int{0, bufferSize, 100_000} {
		err := write(&failing{after}, directory, entry("a"), file(strings.Repeat("x", 200_000), false), entry("b"), symlink("a"), endDirectory)
		if err == nil || err.Error() != "disk full" {
			t.Errorf("after %d bytes: %v", after, err)
		}
	}
}

// BenchmarkWriter writes a directory of files of a size into nothing: as copy
// the floor, with this package, and with go-nix.
func BenchmarkWriter(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		files := max(1, 4<<20/size)
		content := make([]byte, size)
		names := make([]string, files)
		for i := range names {
			names[i] = fmt.Sprintf("%08d", i)
		}
		run := func(name string, f func() error) {
			b.Run(fmt.Sprintf("%s/%dKiB", name, size>>10), func(b *testing.B) {
				b.SetBytes(int64(files * size))
				for b.Loop() {
					if err := f(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		sink := make([]byte, size)
		run("floor=copy", func() error {
			for range names {
				copy(sink, content)
			}
			return nil
		})
		run("ours", func() error {
			n := NewWriter(io.Discard)
			err := n.Directory()
			for _, name := range names {
				err = errors.Join(err, n.Entry(name), n.File(uint64(size), false))
				if _, e := n.Write(content); e != nil {
					return e
				}
			}
			return errors.Join(err, n.EndDirectory(), n.Close())
		})
		run("go-nix", func() error {
			n, err := gonar.NewWriter(io.Discard)
			if err != nil {
				return err
			}
			if err := n.WriteHeader(&gonar.Header{Path: "/", Type: gonar.TypeDirectory}); err != nil {
				return err
			}
			for _, name := range names {
				if err := n.WriteHeader(&gonar.Header{Path: "/" + name, Type: gonar.TypeRegular, Size: int64(size)}); err != nil {
					return err
				}
				if _, err := n.Write(content); err != nil {
					return err
				}
			}
			return n.Close()
		})
	}
}
