package narcodec

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"
)

// packed are contents in each compression, by our writers, by those of the
// libraries, or by the compressors' own programs.
func packed(t testing.TB, contents []byte) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	pack := func(name string, open func(w io.Writer) (io.WriteCloser, error)) {
		var b bytes.Buffer
		w, err := open(&b)
		if err == nil {
			_, err = w.Write(contents)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = b.Bytes()
	}
	for _, name := range []string{"zstd", "xz", "gzip"} {
		pack(name, func(w io.Writer) (io.WriteCloser, error) { return NewWriter(name, w) })
	}
	pack("br", func(w io.Writer) (io.WriteCloser, error) { return brotli.NewWriter(w), nil })
	pack("lz4", func(w io.Writer) (io.WriteCloser, error) { return lz4.NewWriter(w), nil })
	pack("lzma", func(w io.Writer) (io.WriteCloser, error) { return lzma.NewWriter(w) })
	all["lzip"] = append(lzipMember(t, contents[:len(contents)/2]), lzipMember(t, contents[len(contents)/2:])...)
	cmd := exec.Command("bzip2")
	cmd.Stdin = bytes.NewReader(contents)
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("SKIP: bzip2: %v (apt-get install bzip2)", err)
	}
	all["bzip2"] = out
	return all
}

// lzipMember is a member of an lzip file. That Nix's own are read is for the
// tests with Nix.
func lzipMember(t testing.TB, contents []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := lzma.WriterConfig{DictCap: 1 << 20, EOSMarker: true, Size: -1}.NewWriter(&b)
	if err == nil {
		_, err = w.Write(contents)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	m := append([]byte("LZIP\x01\x14"), b.Bytes()[lzma.HeaderLen:]...)
	m = binary.LittleEndian.AppendUint32(m, crc32.ChecksumIEEE(contents))
	m = binary.LittleEndian.AppendUint64(m, uint64(len(contents)))
	return binary.LittleEndian.AppendUint64(m, uint64(len(m)+8))
}

func sample() []byte {
	return []byte(strings.Repeat("compresses well ", 20_000) + "\x00\xff end")
}

func unpack(name string, packed []byte) ([]byte, error) {
	c, err := ByName(name)
	if err != nil {
		return nil, err
	}
	r, err := c.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, 64<<20))
}

func TestAllComeBack(t *testing.T) {
	for _, contents := range [][]byte{sample(), nil} {
		for name, file := range packed(t, contents) {
			got, err := unpack(name, file)
			if err != nil || !bytes.Equal(got, contents) {
				t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(contents), err)
			}
		}
	}
	if got, err := unpack("none", sample()); err != nil || !bytes.Equal(got, sample()) {
		t.Errorf("none: %d bytes, %v", len(got), err)
	}
}

// TestTruncated cuts each file: it is never taken for a whole one.
func TestTruncated(t *testing.T) {
	contents := sample()
	for name, file := range packed(t, contents) {
		for _, n := range []int{0, 1, 5, len(file) / 2, len(file) - 1} {
			got, err := unpack(name, file[:n])
			if err == nil {
				t.Errorf("%s: %d bytes of %d were taken for a file of %d bytes", name, n, len(file), len(got))
			} else if n == 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: empty: %v", name, err)
			}
		}
	}
}

func TestFound(t *testing.T) {
	for name, file := range packed(t, sample()) {
		c, ok := BySuffix(Suffix(name))
		if !ok || c.Name != name {
			t.Errorf("%s by its suffix %q: %v", name, Suffix(name), c)
		}
		if c = ByMagic(bufio.NewReader(bytes.NewReader(file))); c == nil && name != "br" && name != "lzma" || c != nil && c.Name != name {
			t.Errorf("%s by how it begins: %v", name, c)
		}
	}
	if c, ok := BySuffix(""); !ok || c != nil {
		t.Errorf("no suffix: %v", c)
	}
	if _, ok := BySuffix(".rar"); ok {
		t.Error(".rar is known")
	}
	if _, err := ByName("rar"); err == nil || !strings.Contains(err.Error(), "none, zstd, xz, gzip, bzip2, br, lz4, lzip, lzma") {
		t.Errorf("rar: %v", err)
	}
	for _, name := range []string{"", "rar", "br", "bzip2"} {
		if err := CheckWriter(name); err == nil || !strings.Contains(err.Error(), "(there is: none, zstd, xz, gzip)") {
			t.Errorf("write %q: %v", name, err)
		}
	}
}

// TestLargeDictionary has files whose dictionary would take more than it may.
func TestLargeDictionary(t *testing.T) {
	files := packed(t, sample())
	lzip, old := bytes.Clone(files["lzip"]), bytes.Clone(files["lzma"])
	lzip[5] = 29
	binary.LittleEndian.PutUint32(old[1:], MaxWindow+1)
	for name, file := range map[string][]byte{"lzip": lzip, "lzma": old} {
		if _, err := unpack(name, file); !errors.Is(err, errDictionary) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// zstd: a frame without content size that asks for a window of 1 GiB.
	if _, err := unpack("zstd", []byte("\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00")); err == nil {
		t.Error("zstd: a window of 1 GiB is taken")
	}
}

func TestDamagedLzip(t *testing.T) {
	file := lzipMember(t, sample())
	for _, i := range []int{len(file) - 20, len(file) - 16, len(file) - 8, 4} { // CRC, sizes, version
		bad := bytes.Clone(file)
		bad[i] ^= 1
		if _, err := unpack("lzip", bad); err == nil {
			t.Errorf("byte %d changed: no error", i)
		}
	}
	if _, err := unpack("lzip", append(bytes.Clone(file), "trailing garbage"...)); err == nil {
		t.Error("what follows the last member is taken")
	}
}

// FuzzReader reads anything in any compression: it ends, without a panic and
// within bounds.
func FuzzReader(f *testing.F) {
	all := packed(f, sample()[:3000])
	for name, file := range all {
		f.Add(name, file)
	}
	f.Fuzz(func(t *testing.T, name string, file []byte) {
		_, _ = unpack(name, file)
	})
}
