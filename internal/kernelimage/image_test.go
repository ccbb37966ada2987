package kernelimage

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bzImage makes the least header that names a version.
func bzImage(version string) []byte {
	b := make([]byte, 0x1000)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x20f)
	binary.LittleEndian.PutUint16(b[0x20e:], 0x400)
	b[0x236] = 1
	copy(b[0x600:], version+"\x00")
	return b
}

func flat(at int, banner string) []byte {
	b := make([]byte, 3<<20)
	copy(b[0x38:], "ARM\x64")
	copy(b[0x100:], "Linux version %s (%s)\n")
	copy(b[at:], banner)
	return b
}

func TestRead(t *testing.T) {
	tests := []struct {
		name string
		data []byte
		want Image
		err  string
	}{
		{"bzImage", bzImage("6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org) #1"), Image{Format: BzImage, Arch: "amd64", Release: "6.1.0-56-cloud-amd64"}, ""},
		{"arm64", flat(0x200, "Linux version 6.12.1 (x@y)"), Image{Format: Flat, Arch: "arm64", Release: "6.12.1"}, ""},
		{"banner across buffers", flat(1<<20-5, "Linux version 6.12.1-rc3+ (x@y)"), Image{Format: Flat, Arch: "arm64", Release: "6.12.1-rc3+"}, ""},
		{"banner at the end", flat(3<<20-25, "Linux version 6.12.1 (x@y)"), Image{Format: Flat, Arch: "arm64", Release: "6.12.1"}, ""},
		{"no banner", flat(0x200, ""), Image{}, "names no version"},
		{"way out of the modules directory", bzImage("6../../etc x"), Image{}, "is no kernel release"},
		{"no version", bzImage(""), Image{}, "is no kernel release"},
		{"empty", nil, Image{}, "not a kernel image"},
		{"text", []byte(strings.Repeat("hello\n", 1000)), Image{}, "not a kernel image"},
		{"gzip", []byte{0x1f, 0x8b, 8, 0}, Image{}, "gunzip"},
		{"cut short", bzImage("6.1")[:0x220], Image{}, "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img, err := Read(bytes.NewReader(tt.data), int64(len(tt.data)))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if *img != tt.want {
				t.Errorf("got %+v, want %+v", *img, tt.want)
			}
		})
	}
}

// TestInstalled reads every kernel of the machine, whose file names say what
// is right.
func TestInstalled(t *testing.T) {
	files, _ := filepath.Glob("/boot/vmlinuz-*")
	if len(files) == 0 {
		t.Skip("SKIP: no kernel in /boot to compare with (apt-get install linux-image-cloud-amd64)")
	}
	for _, f := range files {
		img, err := Open(f)
		if os.IsPermission(err) {
			t.Skipf("SKIP: %v", err)
		}
		if err != nil {
			t.Error(err)
			continue
		}
		if want := strings.TrimPrefix(f, "/boot/vmlinuz-"); img.Release != want {
			t.Errorf("%s: release %q", f, img.Release)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(bzImage("6.1.0 x"))
	f.Add(flat(0x200, "Linux version 6.12.1 (x@y)")[:0x1000])
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		img, err := Read(bytes.NewReader(data), int64(len(data)))
		if err == nil && checkRelease(img.Release) != nil {
			t.Fatalf("release %q", img.Release)
		}
	})
}
