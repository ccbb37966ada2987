package staging

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNew holds that directories of the dead are removed and those of the
// living and of others are not.
func TestNew(t *testing.T) {
	store := filepath.Join(t.TempDir(), "deep/store")
	alive, err := New(store)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := New(store)
	if err != nil {
		t.Fatal(err)
	}
	f, number, err := dead.Create()
	if err != nil || f.Name() != dead.Path(number) {
		t.Fatalf("Create = %v, %d, %v", f, number, err)
	}
	f.Close()
	dead.dir.Close() // as the end of its process does
	outside := filepath.Join(t.TempDir(), "outside")
	for _, err := range []error{
		os.WriteFile(outside, nil, 0o644),
		os.WriteFile(filepath.Join(store, Name, "file"), nil, 0o644),
		os.Symlink(outside, filepath.Join(store, Name, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	third, err := New(store)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(store, Name))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	want := []string{filepath.Base(alive.dir.Name()), filepath.Base(third.dir.Name()), "file", "link"}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the store has %q, want %q", got, want)
	}
	for _, d := range []*Dir{alive, third} {
		if err := d.Remove(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(d.dir.Name()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there after Remove: %v", d.dir.Name(), err)
		}
	}
}

func TestCreate(t *testing.T) {
	d, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Remove()
	seen := map[uint64]bool{}
	for range 3 {
		f, number, err := d.Create()
		if err != nil || seen[number] {
			t.Fatalf("Create = %d, %v", number, err)
		}
		seen[number] = true
		if info, err := f.Stat(); err != nil || info.Mode() != 0o444 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		f.Close()
	}
}

func TestOpenLocked(t *testing.T) {
	dir := t.TempDir()
	a, err := OpenLocked(dir, unix.LOCK_SH)
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenLocked(dir, unix.LOCK_SH|unix.LOCK_NB)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	if _, err := OpenLocked(dir, unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("a second lock: %v", err)
	}
	a.Close()
	c, err := OpenLocked(dir, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		t.Fatalf("after the first one is closed: %v", err)
	}
	c.Close()
	if _, err := OpenLocked(filepath.Join(dir, "none"), unix.LOCK_SH); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

func TestSync(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	many := slices.Repeat([]string{file}, FewSyncs+1)
	for _, paths := range [][]string{nil, {file, dir}, {filepath.Join(dir, "gone"), file}, many} {
		if err := Sync(dir, paths); err != nil {
			t.Errorf("Sync of %d: %v", len(paths), err)
		}
	}
	if err := Sync(filepath.Join(dir, "none"), many); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Sync of a store that is not there: %v", err)
	}
}
