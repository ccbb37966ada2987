package substitute

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castorenar"
	"storeboot/virtiofsd/narinfo"
	"storeboot/virtiofsd/pathinfo"
)

// bridge makes the narinfo of p one of a bridge: its URL names the node, and the
// NAR is there too.
func (w *world) bridge(p *pathinfo.PathInfo, node castore.Node) {
	w.t.Helper()
	url := narinfo.CastoreURL(narinfo.SnixCastore, node, p.NarSize)
	parts, _, _ := bytes.Cut([]byte(url), []byte("?"))
	var nar bytes.Buffer
	err := castorenar.Write(context.Background(), &nar, p.Node, w.from.Blobs, w.from.Directories)
	file := filepath.Join(w.dir, string(parts))
	err = errors.Join(err,
		os.MkdirAll(filepath.Dir(file), 0o755),
		os.WriteFile(file, nar.Bytes(), 0o644),
		os.WriteFile(filepath.Join(w.dir, p.StorePath.Hash.String()+".narinfo"), narinfo.FromPathInfo(p, url).Marshal(), 0o644))
	if err != nil {
		w.t.Fatal(err)
	}
}

// castoreService is a service whose cache has services for its castore URLs.
func (w *world) castoreService(store Store, params string) *Service {
	w.t.Helper()
	s, err := New(store, []Source{{Cache: w.open(w.url + unsigned + params), Blobs: w.from.Blobs, Directories: w.from.Directories}}, Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestCastoreCopiesTheTree(t *testing.T) {
	w := newWorld(t)
	p := w.add("hello")
	w.bridge(p, p.Node)
	store := memoryStore()
	if _, err := w.castoreService(store, "").Get(context.Background(), p.StorePath.Hash); err != nil {
		t.Fatal(err)
	}
	check(t, store, p)
	if n := w.count(""); n != 2 {
		t.Errorf("%d requests: the NAR was downloaded", n)
	}
}

// TestCastoreFallsBackToTheNAR has bridges whose nodes are not what was signed, or
// are not there.
func TestCastoreFallsBackToTheNAR(t *testing.T) {
	for name, node := range map[string]func(w *world) castore.Node{
		"another tree": func(w *world) castore.Node { return w.add("other").Node },
		"no tree": func(*world) castore.Node {
			return castore.Node{Kind: castore.KindDirectory, Digest: castore.Digest{1}, Size: 3}
		},
	} {
		w := newWorld(t)
		p := w.add("hello")
		w.bridge(p, node(w))
		store := memoryStore()
		if _, err := w.castoreService(store, "").Get(context.Background(), p.StorePath.Hash); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		check(t, store, p)
		if n := w.count(""); n != 3 {
			t.Errorf("%s: %d requests", name, n)
		}
	}
}

func TestCastoreLazyCopiesNothing(t *testing.T) {
	w := newWorld(t)
	p := w.add("hello")
	w.bridge(p, p.Node)
	store := memoryStore()
	s := w.castoreService(store, "&castore=grpc+http://elsewhere&castore-lazy=1")
	for range 2 {
		got, err := s.Get(context.Background(), p.StorePath.Hash)
		if err != nil || got.Node != p.Node {
			t.Fatalf("%v, %v", got, err)
		}
	}
	if _, err := store.Directories.Get(context.Background(), p.Node.Digest); !errors.Is(err, castore.ErrNotFound) {
		t.Errorf("its directory: %v", err)
	}
	if _, err := store.PathInfos.Get(context.Background(), p.StorePath.Hash); !errors.Is(err, pathinfo.ErrNotFound) {
		t.Errorf("the store says that it has it: %v", err)
	}
	if n := w.count(""); n != 2 {
		t.Errorf("%d requests", n)
	}
}
