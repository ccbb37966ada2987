package sqlitestore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
)

// readOnlyView shows dir at another place where nothing can be written.
func readOnlyView(t *testing.T, dir string) string {
	t.Helper()
	view := t.TempDir()
	if err := unix.Mount(dir, view, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("SKIP: no directory can be mounted read-only (root may): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(view, unix.MNT_DETACH) })
	if err := unix.Mount("", view, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return view
}

// TestReadOnly holds that a database that cannot be written to is read as it is,
// with what others write to it, and that a write says why it fails.
func TestReadOnly(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	view := readOnlyView(t, dir)
	w := mustOpen(t, filepath.Join(dir, "store.sqlite"))
	link := castore.Entry{Name: "l", Node: castore.Node{Kind: castore.KindSymlink, Target: "t"}}
	d := castoretest.NewDirectory(t, link)
	if _, err := castoretest.PutDirectories(w.Directories(), d); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil { // nothing is left beside the file
		t.Fatal(err)
	}
	r := mustOpen(t, filepath.Join(view, "store.sqlite"))
	check := func(want ...*castore.Directory) {
		t.Helper()
		for _, d := range want {
			if _, err := r.Directories().Get(ctx, d.Digest()); err != nil {
				t.Error(err)
			}
		}
	}
	check(d)
	for name, err := range map[string]error{
		"Put":           func() error { _, err := castoretest.PutDirectories(r.Directories(), d); return err }(),
		"Put path info": func() error { _, err := r.PathInfos().Put(ctx, pathinfotest.Bare("p")); return err }(),
	} {
		if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), view) || !strings.Contains(err.Error(), "make it writable") {
			t.Errorf("%s: %v", name, err)
		}
	}
	w = mustOpen(t, filepath.Join(dir, "store.sqlite"))
	second := castoretest.NewDirectory(t, link, castoretest.Sub("s", d))
	if _, err := castoretest.PutDirectories(w.Directories(), d, second); err != nil {
		t.Fatal(err)
	}
	check(d, second) // while it is in the WAL
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	check(d, second) // after it went to the file
}

// TestReadOnlyWAL has changes of a killed process without the file that is
// needed to read them in place.
func TestReadOnlyWAL(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	w := mustOpen(t, filepath.Join(dir, "store.sqlite"))
	if _, err := w.PathInfos().Put(context.Background(), pathinfotest.Bare("p")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"store.sqlite", "store.sqlite-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(other, name), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(filepath.Join(readOnlyView(t, other), "store.sqlite")); err == nil || !strings.Contains(err.Error(), "-wal") || !strings.Contains(err.Error(), "open the store once where it can be written to") {
		t.Errorf("Open: %v", err)
	}
	// Where it can be written to, nothing is lost.
	db := mustOpen(t, filepath.Join(other, "store.sqlite"))
	if _, err := db.PathInfos().Get(context.Background(), pathinfotest.Bare("p").StorePath.Hash); err != nil {
		t.Error(err)
	}
}
