package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestList(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"a b", "ünï", "new\nline", "deep/er/and/deeper/file", "\xff"} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		if err := os.WriteFile(filepath.Join(root, "deep", fmt.Sprint(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Links are listed and not followed, whether or not they lead anywhere.
	for name, target := range map[string]string{"link": "deep", "loop": ".", "dangling": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		want = append(want, p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := list(root, &out); err != nil {
		t.Fatal(err)
	}
	// A name with a newline is written as it is: the same text, sorted by line.
	lines := func(s string) []string {
		l := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
		slices.Sort(l)
		return l
	}
	if !slices.Equal(lines(out.String()), lines(strings.Join(want, "\n"))) {
		t.Errorf("%d bytes, not what WalkDir finds", out.Len())
	}
	seen := map[string]bool{"": true, filepath.Dir(root): true}
	for _, p := range strings.Split(out.String(), "\n") {
		if strings.HasPrefix(p, "/") && !seen[filepath.Dir(p)] {
			t.Errorf("%q comes before its directory", p)
		}
		seen[p] = true
	}
}

func TestListErrors(t *testing.T) {
	root := t.TempDir()
	var out bytes.Buffer
	missing := filepath.Join(root, "missing")
	if err := list(missing, &out); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "read directory "+missing) {
		t.Errorf("missing root: %v", err)
	}
	// Two directories whose paths are too long for the kernel, and a file that
	// is listed all the same.
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	back, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Chdir(back); err != nil {
			t.Fatal(err)
		}
	}()
	for _, first := range []string{"x", "y"} {
		if err := os.Chdir(root); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			name := strings.Repeat(first, 250)
			if err := os.Mkdir(name, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chdir(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	out.Reset()
	err = list(root, &out)
	if !errors.Is(err, unix.ENAMETOOLONG) || !strings.Contains(err.Error(), "(and 1 more errors)") || !strings.Contains(out.String(), root+"/file\n") {
		t.Errorf("long paths: %v", err)
	}
	if err := list(root, failingWriter{}); err == nil || !strings.Contains(err.Error(), "write the list: full") {
		t.Errorf("write error: %v", err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

// dirents encodes entries as getdents64(2) does.
func dirents(names ...string) []byte {
	var out []byte
	for i, n := range names {
		b := make([]byte, 19, 300)
		binary.NativeEndian.PutUint64(b, uint64(i+1))
		b[18] = unix.DT_REG
		b = append(append(b, n...), 0)
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
		binary.NativeEndian.PutUint16(b[16:], uint16(len(b)))
		out = append(out, b...)
	}
	return out
}

func TestParseDirents(t *testing.T) {
	good := dirents(".", "..", "a", "a long name with spaces")
	got, err := parseDirents(good, nil)
	if err != nil || len(got) != 2 || got[0] != (entry{"a", unix.DT_REG}) || got[1].name != "a long name with spaces" {
		t.Errorf("%v, %v", got, err)
	}
	for cut := 1; cut < 24; cut++ {
		if _, err := parseDirents(dirents("abc")[:cut], nil); !errors.Is(err, errDirent) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	if _, err := parseDirents(patched(dirents("abc"), 16, 0), nil); !errors.Is(err, errDirent) {
		t.Errorf("length 0: %v", err)
	}
}

func FuzzParseDirents(f *testing.F) {
	f.Add(dirents(".", "..", "a"))
	f.Add(dirents("abc")[:20])
	f.Add(patched(dirents("abc"), 16, 0))
	f.Fuzz(func(t *testing.T, buf []byte) {
		got, err := parseDirents(buf, nil)
		if len(got) > len(buf)/20 {
			t.Errorf("%d entries from %d bytes", len(got), len(buf))
		}
		if err != nil && !errors.Is(err, errDirent) {
			t.Error(err)
		}
	})
}
