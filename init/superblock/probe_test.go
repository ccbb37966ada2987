package superblock

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const (
	testUUID  = "00112233-4455-6677-8899-aabbccddeeff"
	testLabel = "root disk"
)

// disk is an image with pieces at offsets.
func disk(pieces map[int]string) []byte {
	b := make([]byte, btrfsAt+size)
	for at, s := range pieces {
		copy(b[at:], s)
	}
	return b
}

func le32(v uint32) string { return string(binary.LittleEndian.AppendUint32(nil, v)) }

const id = "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"

func images() map[string][]byte {
	return map[string][]byte{
		"xfs":      disk(map[int]string{0: "XFSB", 32: id, 108: testLabel}),
		"ext2":     disk(map[int]string{1024 + 56: "\x53\xef", 1024 + 104: id, 1024 + 120: testLabel}),
		"ext3":     disk(map[int]string{1024 + 56: "\x53\xef", 1024 + 92: le32(4), 1024 + 96: le32(2), 1024 + 104: id, 1024 + 120: testLabel}),
		"ext4":     disk(map[int]string{1024 + 56: "\x53\xef", 1024 + 92: le32(4), 1024 + 96: le32(0x42), 1024 + 104: id, 1024 + 120: testLabel}),
		"erofs":    disk(map[int]string{1024: le32(0xE0F5E1E2), 1024 + 48: id, 1024 + 64: testLabel}),
		"btrfs":    disk(map[int]string{65536 + 32: id, 65536 + 64: "_BHRfS_M", 65536 + 299: testLabel}),
		"squashfs": disk(map[int]string{0: "hsqs"}),
	}
}

func TestProbe(t *testing.T) {
	for typ, image := range images() {
		want := FS{typ, testUUID, testLabel}
		if typ == "squashfs" {
			want = FS{Type: typ}
		}
		if got, err := Probe(bytes.NewReader(image)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", typ, got, err)
		}
	}
	for name, image := range map[string][]byte{"empty": nil, "short": make([]byte, 1030), "zero": disk(nil)} {
		if got, err := Probe(bytes.NewReader(image)); !errors.Is(err, ErrUnknown) || got != (FS{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := Probe(broken{}); !errors.Is(err, errBroken) {
		t.Errorf("broken disk: %v", err)
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

// TestProbeReal reads what the tools of the file systems make, where they are.
func TestProbeReal(t *testing.T) {
	for typ, command := range map[string][]string{
		"ext2":  {"mke2fs", "-q", "-t", "ext2", "-U", testUUID, "-L", testLabel},
		"ext4":  {"mke2fs", "-q", "-t", "ext4", "-U", testUUID, "-L", testLabel},
		"xfs":   {"mkfs.xfs", "-q", "-m", "uuid=" + testUUID, "-L", testLabel},
		"btrfs": {"mkfs.btrfs", "-q", "-U", testUUID, "-L", testLabel},
	} {
		t.Run(typ, func(t *testing.T) {
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Skipf("SKIP: this machine lacks %s", command[0])
			}
			file := filepath.Join(t.TempDir(), "disk")
			f, err := os.Create(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := f.Truncate(320 << 20); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(command[0], append(command[1:], file)...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if got, err := Probe(f); err != nil || got != (FS{typ, testUUID, testLabel}) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func FuzzProbe(f *testing.F) {
	for _, image := range images() {
		f.Add(image)
	}
	f.Add([]byte("XFSB"))
	f.Fuzz(func(t *testing.T, image []byte) {
		fs, err := Probe(bytes.NewReader(image))
		if (err == nil) != (fs.Type != "") || err != nil && !errors.Is(err, ErrUnknown) {
			t.Errorf("%+v, %v", fs, err)
		}
		if len(fs.Label) > 256 || fs.UUID != "" && len(fs.UUID) != len(testUUID) {
			t.Errorf("%+v", fs)
		}
	})
}
