package kmod

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// installed is the directory of a kernel's modules on this machine.
func installed(t testing.TB) *Index {
	t.Helper()
	dirs, _ := filepath.Glob("/lib/modules/*/modules.dep")
	if len(dirs) == 0 {
		t.Skip("SKIP: this machine has no kernel modules (apt-get install linux-image-cloud-amd64)")
	}
	x, err := Open(filepath.Dir(dirs[0]))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestReadInfo holds what real modules say of themselves against what depmod
// made of it.
func TestReadInfo(t *testing.T) {
	x := installed(t)
	list, err := x.Closure("virtiofs")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		data, err := m.Read()
		if err != nil {
			t.Fatal(err)
		}
		i, err := ReadInfo(data)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(i.VerMagic, filepath.Base(x.Dir())+" ") {
			t.Errorf("%s: vermagic %q", m.Name, i.VerMagic)
		}
		for _, d := range i.Depends {
			if !slices.Contains(x.Needs(m.Name), d) {
				t.Errorf("%s depends on %s, and depmod says on %q", m.Name, d, x.Needs(m.Name))
			}
		}
	}
	if _, err := ReadInfo([]byte("\x7fELF")); err == nil {
		t.Error("half a header was read")
	}
}

func TestUnderAndTables(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"modules.dep":     "kernel/drivers/net/a.ko.xz: kernel/drivers/net/b.ko.xz kernel/lib/c.ko.xz\nkernel/drivers/net/b.ko.xz:\nkernel/drivers/network/d.ko:\nkernel/lib/c.ko.xz:\n",
		"modules.softdep": "softdep a pre: c post: d\n",
		"modules.alias":   "alias pci:* a\nalias pci:v2* d\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	x, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := x.Under("drivers/net/"); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("drivers/net/: %q, %v", got, err)
	}
	if got, err := x.Under("drivers/gpu"); err == nil || !strings.Contains(err.Error(), "drivers/gpu") {
		t.Errorf("drivers/gpu: %q, %v", got, err)
	}
	got, err := x.Tables([]Module{{Name: "a"}, {Name: "b"}})
	want := map[string]string{
		"modules.dep":     "kernel/drivers/net/a.ko: kernel/drivers/net/b.ko\nkernel/drivers/net/b.ko:\n",
		"modules.softdep": "softdep a pre: c post: d\n",
		"modules.alias":   "alias pci:* a\n",
	}
	for name, text := range want {
		if err != nil || string(got[name]) != text {
			t.Errorf("%s: %q, %v, want %q", name, got[name], err, text)
		}
	}
}

// FuzzReadInfo reads arbitrary files as modules.
func FuzzReadInfo(f *testing.F) {
	f.Add([]byte("\x7fELF"))
	if dirs, _ := filepath.Glob("/lib/modules/*/kernel/fs/fuse/virtiofs.ko"); len(dirs) > 0 {
		if data, err := os.ReadFile(dirs[0]); err == nil && len(data) < 100<<10 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if i, err := ReadInfo(data); err != nil && (i.VerMagic != "" || i.Firmware != nil) {
			t.Errorf("%+v beside %v", i, err)
		}
	})
}
