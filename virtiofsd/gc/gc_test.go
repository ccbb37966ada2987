package gc

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/castore/fileblobs"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
	"storeboot/virtiofsd/sqlitestore"
)

// open opens the store in dir; each open is like that of another process.
func open(t testing.TB, dir string) Store {
	t.Helper()
	blobs, err := fileblobs.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlitestore.Open(filepath.Join(dir, "store.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { blobs.Close(); db.Close() })
	return Store{blobs, db.Directories(), db.PathInfos()}
}

// put stores a path whose tree is a directory with one file, as a client of a
// daemon does: without holding the store.
func (s Store) put(t testing.TB, name, content string, references ...storepath.StorePath) storepath.StorePath {
	t.Helper()
	ctx := context.Background()
	blob := castoretest.PutBlob(t, s.Blobs, []byte(content))
	if err := s.Blobs.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	dir := castoretest.NewDirectory(t, castore.Entry{Name: "file", Node: castore.Node{Kind: castore.KindFile, Digest: blob, Size: uint64(len(content))}})
	if _, err := castoretest.PutDirectories(s.Directories, dir); err != nil {
		t.Fatal(err)
	}
	info := *pathinfotest.Bare(name)
	info.Node = dir.Node()
	info.References = references
	if _, err := s.PathInfos.Put(ctx, &info); err != nil {
		t.Fatal(err)
	}
	return info.StorePath
}

// check fails unless all of a path is there.
func (s Store) check(t testing.TB, p storepath.StorePath) {
	t.Helper()
	ctx := context.Background()
	info, err := s.PathInfos.Get(ctx, p.Hash)
	if err != nil {
		t.Errorf("%s: %v", p, err)
		return
	}
	dir, err := s.Directories.Get(ctx, info.Node.Digest)
	if err != nil {
		t.Errorf("%s: %v", p, err)
		return
	}
	for _, e := range dir.Entries() {
		if _, err := castoretest.GetBlob(s.Blobs, e.Digest); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestClosureStays(t *testing.T) {
	s := open(t, t.TempDir())
	gone := pathinfotest.Path("gone")
	a := s.put(t, "a", "1")
	b := s.put(t, "b", "2", a, gone)
	c := s.put(t, "c", "3", b, pathinfotest.Path("c")) // and itself
	s.put(t, "garbage", "4", c)
	named := s.put(t, "named", "5")
	r, err := Collect(context.Background(), s, Options{
		Roots:      []storepath.StorePath{c},
		NamedRoots: func() ([]storepath.StorePath, error) { return []storepath.StorePath{named, gone}, nil },
	})
	if err != nil || len(r.Paths) != 1 || r.Paths[0].Path.Name != "garbage" || r.Directories != 1 || r.Blobs != 1 || r.BlobBytes != 1 || r.KeptPaths != 4 || r.KeptBlobs != 4 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, p := range []storepath.StorePath{a, b, c, named} {
		s.check(t, p)
	}
}

func TestErrors(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir)
	p := s.put(t, "a", "1")
	if _, err := Collect(ctx, s, Options{Roots: []storepath.StorePath{pathinfotest.Path("gone")}}); !errors.Is(err, pathinfo.ErrNotFound) || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a root that is not there: %v", err)
	}
	failure := errors.New("no roots today")
	if _, err := Collect(ctx, s, Options{NamedRoots: func() ([]storepath.StorePath, error) { return nil, failure }}); !errors.Is(err, failure) {
		t.Errorf("named roots that fail: %v", err)
	}
	release, err := Hold(ctx, open(t, dir).Blobs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Collect(ctx, s, Options{Wait: 50 * time.Millisecond}); err == nil || !strings.Contains(err.Error(), "still at work") {
		t.Errorf("while an import is at work: %v", err)
	}
	release()
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Collect(canceled, s, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	memory := Store{castore.NewMemoryBlobs(), s.Directories, s.PathInfos}
	if _, err := Collect(ctx, memory, Options{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("blobs in memory: %v", err)
	}
	if _, err := Hold(ctx, memory.Blobs); err != nil {
		t.Errorf("Hold of blobs in memory: %v", err)
	}
	s.check(t, p)
}

// TestClients has clients that cannot hold the store put the same few paths
// again and again while collections go on: within the grace nothing that was
// put is ever lost, or was collected between its look-up and its path info.
func TestClients(t *testing.T) {
	dir := t.TempDir()
	const grace = 10 * time.Minute
	done := make(chan struct{})
	var collectors, clients sync.WaitGroup
	collectors.Go(func() {
		s := open(t, dir)
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := Collect(context.Background(), s, Options{Grace: grace}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 3 {
		clients.Go(func() {
			s := open(t, dir)
			for i := range 40 {
				name := fmt.Sprint("p", i%4)
				s.check(t, s.put(t, name, name))
			}
		})
	}
	clients.Wait()
	close(done)
	collectors.Wait()
	s := open(t, dir)
	n := 0
	for p, err := range s.PathInfos.List(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		s.check(t, p.StorePath)
		n++
	}
	if n != 4 {
		t.Errorf("%d paths are there", n)
	}
}

func TestRootsDir(t *testing.T) {
	d := RootsDir(filepath.Join(t.TempDir(), "store"))
	if roots, err := d.List(); err != nil || len(roots) != 0 {
		t.Errorf("%v, %v before there are any", roots, err)
	}
	a, b := pathinfotest.Path("a"), pathinfotest.Path("b")
	if err := errors.Join(d.Add("x", a), d.Add("y", a), d.Add("x", b), d.Remove("y")); err != nil {
		t.Fatal(err)
	}
	if roots, err := d.List(); err != nil || len(roots) != 1 || roots[0] != (Root{"x", b}) {
		t.Errorf("%v, %v", roots, err)
	}
	for _, name := range []string{"", ".", "..", "a/b", ".x", "a b", "\x00"} {
		if err := d.Add(name, a); err == nil {
			t.Errorf("the name %q is taken", name)
		}
		if err := d.Remove(name); err == nil {
			t.Errorf("the root %q is removed", name)
		}
	}
}
