package kernelimage

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// bzImageOf is a bzImage with the payload, followed by its unpacked length and
// by what the kernel puts behind it.
func bzImageOf(payload []byte, unpacked int) []byte {
	b := bzImage("6.1 x")[:0x1000]
	b[0x1f1] = 1
	binary.LittleEndian.PutUint32(b[0x248:], 0x1000-2*512)
	binary.LittleEndian.PutUint32(b[0x24c:], uint32(len(payload)+4))
	b = append(b, payload...)
	b = binary.LittleEndian.AppendUint32(b, uint32(unpacked))
	return append(b, make([]byte, 100)...)
}

// vmlinux is bytes that begin as an ELF file does, with text as configuration.
func vmlinux(t testing.TB, text string) []byte {
	t.Helper()
	b := append([]byte(elf.ELFMAG), bytes.Repeat([]byte("kernel code "), 100_000)...)
	if text != "" {
		b = append(b, "IKCFG_ST"...)
		b = append(b, pack(t, "gzip", []byte(text))...)
		b = append(b, "IKCFG_ED"...)
	}
	return append(b, make([]byte, 5000)...)
}

func pack(t testing.TB, codec string, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser
	var err error
	switch codec {
	case "none":
		return data
	case "gzip":
		w = gzip.NewWriter(&buf)
	case "xz":
		w, err = xz.WriterConfig{CheckSum: xz.CRC32}.NewWriter(&buf)
	case "lzma":
		w, err = lzma.WriterConfig{EOSMarker: true}.NewWriter(&buf)
	case "lz4":
		z := lz4.NewWriter(&buf)
		err = z.Apply(lz4.LegacyOption(true))
		w = z
	case "zstd":
		w, err = zstd.NewWriter(&buf)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestPayload(t *testing.T) {
	want := vmlinux(t, "CONFIG_A=y\n")
	for _, codec := range []string{"none", "gzip", "xz", "lzma", "lz4", "zstd"} {
		image := bzImageOf(pack(t, codec, want), len(want))
		r, err := Payload(bytes.NewReader(image))
		if err != nil {
			t.Errorf("%s: %v", codec, err)
			continue
		}
		got, err := io.ReadAll(io.LimitReader(r, int64(len(want))))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v, want %d", codec, len(got), err, len(want))
		}
		if text, err := Config(bytes.NewReader(image)); err != nil || string(text) != "CONFIG_A=y\n" {
			t.Errorf("%s: configuration %q, %v", codec, text, err)
		}
	}
	for name, tt := range map[string]struct {
		data []byte
		err  string
	}{
		"lzo":      {bzImageOf([]byte("\x89LZO\x00\r\n"), 1), "LZO"},
		"unknown":  {bzImageOf([]byte("hello, world"), 1), "68 65 6c"},
		"no bz":    {make([]byte, 4096), "not a bzImage"},
		"cut off":  {bzImageOf([]byte("x"), 1)[:0x1000], "cut off"},
		"too tiny": {[]byte("x"), "EOF"},
	} {
		if _, err := Payload(bytes.NewReader(tt.data)); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error %v, want %q", name, err, tt.err)
		}
	}
}

func TestConfig(t *testing.T) {
	for name, data := range map[string][]byte{"vmlinux": vmlinux(t, ""), "bzImage": bzImageOf(vmlinux(t, ""), 1)} {
		if _, err := Config(bytes.NewReader(data)); !errors.Is(err, ErrNoConfig) {
			t.Errorf("%s without: %v", name, err)
		}
	}
	damaged := vmlinux(t, strings.Repeat("CONFIG_A=y\n", 100))
	i := bytes.Index(damaged, []byte("IKCFG_ED"))
	damaged[i-3] ^= 1
	if _, err := Config(bytes.NewReader(damaged)); err == nil || errors.Is(err, ErrNoConfig) {
		t.Errorf("damaged: %v", err)
	}
	if _, err := OpenConfig(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// TestPayloadOfInstalled unpacks every kernel of the machine into the ELF file
// that its build made.
func TestPayloadOfInstalled(t *testing.T) {
	files, _ := filepath.Glob("/boot/vmlinuz-*")
	if len(files) == 0 {
		t.Skip("SKIP: no kernel in /boot (apt-get install linux-image-cloud-amd64)")
	}
	for _, name := range files {
		f, err := os.Open(name)
		if os.IsPermission(err) {
			t.Skipf("SKIP: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := Payload(f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		img, err := Read(bytes.NewReader(b), int64(len(b)))
		want, openErr := Open(name)
		if err != nil || openErr != nil || img.Format != ELF || img.Release != want.Release {
			t.Errorf("%s: %+v, %v, %v", name, img, err, openErr)
		}
	}
}

func FuzzConfig(f *testing.F) {
	small := bzImageOf(pack(f, "gzip", []byte("\x7fELF IKCFG_ST"+string(pack(f, "gzip", []byte("CONFIG_A=y\n"))))), 1)
	f.Add(small)
	f.Add(bzImageOf(pack(f, "xz", []byte("\x7fELF")), 4))
	f.Fuzz(func(t *testing.T, data []byte) {
		text, err := Config(bytes.NewReader(data))
		if err == nil && len(text) > maxConfig {
			t.Fatal("too long")
		}
	})
}
