package kernel

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestCompareReleases(t *testing.T) {
	// From old to new.
	order := []string{
		"5.10.0-30-amd64", "6.1-rc2", "6.1-rc10", "6.1", "6.1.0-9-amd64", "6.1.0-56-amd64", "6.1.0-56-cloud-amd64",
		"6.1.10-1-amd64", "6.9.0-1-amd64", "6.12.1-1-amd64", "10.0.0",
	}
	shuffled := slices.Clone(order)
	slices.Sort(shuffled)
	slices.SortFunc(shuffled, CompareReleases)
	if !slices.Equal(shuffled, order) {
		t.Errorf("sorted: %q\nwant: %q", shuffled, order)
	}
	for _, a := range order {
		for _, b := range order {
			x, y := CompareReleases(a, b), CompareReleases(b, a)
			if (x > 0) != (y < 0) || (x == 0) != (a == b) {
				t.Errorf("%s, %s: %d and %d", a, b, x, y)
			}
		}
	}
}

func FuzzCompareReleases(f *testing.F) {
	f.Add("6.1.0-9", "6.1.0-10")
	f.Add("6.1-rc1", "6.1")
	f.Add("00", "0")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := CompareReleases(a, b), CompareReleases(b, a)
		if (x > 0) != (y < 0) || (x < 0) != (y > 0) || a == b && x != 0 {
			t.Errorf("%q, %q: %d and %d", a, b, x, y)
		}
	})
}

// bzImage is the least that passes for one.
func bzImage(release string) []byte {
	b := make([]byte, 0x400)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x20f)
	binary.LittleEndian.PutUint16(b[0x20e:], 0x100)
	b[0x236] = 1 // 64-bit entry point
	copy(b[0x300:], release+" (builder@host) #1\x00")
	return b
}

func TestFind(t *testing.T) {
	type file struct {
		name    string
		data    []byte
		modules bool
	}
	good := func(release string) file { return file{release, bzImage(release), true} }
	tests := []struct {
		name  string
		files []file
		want  string // release
		err   []string
	}{
		{"newest", []file{good("6.1.0-9-amd64"), good("6.1.0-56-cloud-amd64"), good("5.10.0-1-amd64")}, "6.1.0-56-cloud-amd64", nil},
		{"newest with modules", []file{good("6.1.0-9-amd64"), {"6.12.0", bzImage("6.12.0"), false}}, "6.1.0-9-amd64", nil},
		{"newest that is a kernel", []file{good("6.1.0-9-amd64"), {"6.12.0", []byte("hello"), true}}, "6.1.0-9-amd64", nil},
		{"none", nil, "", []string{"no vmlinuz-*", "apt-get install linux-image-cloud-amd64", "--kernel FILE"}},
		{"no modules", []file{{"6.12.0", bzImage("6.12.0"), false}}, "", []string{"vmlinuz-6.12.0 lacks its modules in", "modules/6.12.0", "--kernel FILE"}},
		{"no kernel image", []file{{"6.12.0", []byte("hello"), true}}, "", []string{"vmlinuz-6.12.0", "not a kernel image", "--kernel FILE"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			boot, modules := t.TempDir(), filepath.Join(t.TempDir(), "modules")
			for _, f := range tt.files {
				if err := os.WriteFile(filepath.Join(boot, "vmlinuz-"+f.name), f.data, 0o644); err != nil {
					t.Fatal(err)
				}
				if f.modules {
					if err := os.MkdirAll(filepath.Join(modules, f.name), 0o755); err != nil {
						t.Fatal(err)
					}
				}
			}
			img, err := Find(boot, modules, "amd64")
			if tt.err == nil {
				if err != nil || img.Release != tt.want || img.Path != filepath.Join(boot, "vmlinuz-"+tt.want) {
					t.Errorf("found %+v, %v; want %s", img, err, tt.want)
				}
				return
			}
			for _, want := range tt.err {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v lacks %q", err, want)
				}
			}
			if _, err := Find(boot, modules, "arm64"); err == nil {
				t.Error("found a kernel for arm64")
			}
		})
	}
}

// TestUnreadable is what some distributions do: the kernel is root's alone.
func TestUnreadable(t *testing.T) {
	if os.Geteuid() == 0 { // who reads every file: again as somebody else
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestUnreadable$")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	boot, modules := t.TempDir(), t.TempDir()
	path := filepath.Join(boot, "vmlinuz-6.1.0")
	if err := os.WriteFile(path, bzImage("6.1.0"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(boot, modules, "amd64"); err == nil || !strings.Contains(err.Error(), "chmod +r "+path) {
		t.Errorf("error %v", err)
	}
}
