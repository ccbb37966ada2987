package kconfig

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// deb is a Debian package with one file in data.tar, packed as ext says.
func deb(t testing.TB, ext, file, text string) []byte {
	t.Helper()
	var data bytes.Buffer
	var w io.WriteCloser
	var err error
	switch ext {
	case ".xz":
		w, err = xz.NewWriter(&data)
	case ".zst":
		w, err = zstd.NewWriter(&data)
	default:
		w = nopCloser{&data}
	}
	if err != nil {
		t.Fatal(err)
	}
	a := tar.NewWriter(w)
	for _, h := range []tar.Header{{Name: "./boot/", Typeflag: tar.TypeDir}, {Name: file, Size: int64(len(text)), Typeflag: tar.TypeReg}} {
		if err := a.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(a, text); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out := []byte(arMagic)
	for _, m := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0")}, {"data.tar" + ext, data.Bytes()}} {
		out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.data))
		out = append(out, m.data...)
		if len(m.data)%2 == 1 {
			out = append(out, '\n')
		}
	}
	return out
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func TestReadPackage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "linux-image.deb")
	for _, ext := range []string{"", ".xz", ".zst"} {
		if err := os.WriteFile(file, deb(t, ext, "./boot/config-6.1.0", "CONFIG_A=y\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		c, from, err := ReadFile(file)
		if err != nil || c.Get("A") != Yes || from != file+": boot/config-6.1.0" {
			t.Errorf("%s: %v, %s, %v", ext, c, from, err)
		}
	}
	good := deb(t, "", "./boot/config-6.1.0", "CONFIG_A=y\n")
	for name, tt := range map[string]struct {
		data []byte
		err  string
	}{
		"another package": {deb(t, "", "./usr/bin/hello", "hi"), "not that of a kernel"},
		"no data":         {good[:len(arMagic)], "not a Debian package"},
		"cut":             {good[:len(arMagic)+30], "EOF"},
		"damaged header":  {slices.Concat(good[:len(arMagic)+50], []byte("x"), good[len(arMagic)+51:]), "damaged"},
		"lzma":            {deb(t, ".lzma", "x", ""), "not compressed with"},
		"bad config":      {deb(t, "", "boot/config-6", "hello\n"), "line 1"},
	} {
		if _, _, err := readPackage(bytes.NewReader(tt.data)); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error %v, want %q", name, err, tt.err)
		}
	}
}

func TestDiff(t *testing.T) {
	parse := func(s string) *Config {
		c, err := Parse(strings.NewReader(s))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b := parse("CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=1\n"), parse("CONFIG_A=y\nCONFIG_B=y\nCONFIG_E=y\n")
	if got := Diff(a, b); !slices.Equal(got, []string{"B", "D", "E"}) {
		t.Errorf("differences %v", got)
	}
	for _, c := range []*Config{a, b} {
		var text strings.Builder
		for _, name := range c.Names() {
			text.WriteString(Line(name, c.Get(name)) + "\n")
		}
		if again := parse(text.String()); len(Diff(c, again)) != 0 || again.Len() != c.Len() {
			t.Errorf("%v became %v", c, again)
		}
	}
}

func FuzzReadPackage(f *testing.F) {
	f.Add(deb(f, "", "./boot/config-6.1.0", "CONFIG_A=y\n"))
	f.Add(deb(f, ".xz", "./boot/config-6.1.0", "CONFIG_A=y\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err := readPackage(bytes.NewReader(data))
		if err == nil && c.Len() == 0 {
			t.Fatal("no option and no error")
		}
	})
}
