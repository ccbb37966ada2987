package substitute

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/binarycache"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castorenar"
	"storeboot/virtiofsd/ingest"
	"storeboot/virtiofsd/pathinfo"
)

// world is a cache over HTTP with paths in it, and how often each of its files
// was asked for.
type world struct {
	t     testing.TB
	dir   string
	from  Store // what the cache was made of
	url   string
	cache *binarycache.Cache

	mu       sync.Mutex
	requests map[string]int // by file
	before   func(http.ResponseWriter, *http.Request) (done bool)
}

func memoryStore() Store {
	return Store{castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), pathinfo.NewMemory()}
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, dir: t.TempDir(), from: memoryStore(), requests: map[string]int{}}
	files := http.FileServer(http.Dir(w.dir))
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.requests[filepath.Base(r.URL.Path)]++
		before := w.before
		w.mu.Unlock()
		if before == nil || !before(rw, r) {
			files.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(s.Close)
	w.url = s.URL
	w.cache = w.open("file://" + w.dir)
	if err := w.cache.Init(context.Background()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) open(address string) *binarycache.Cache {
	w.t.Helper()
	a, err := binarycache.ParseAddress(address)
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := binarycache.Open(context.Background(), a)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// intercept sets what comes before the files.
func (w *world) intercept(f func(http.ResponseWriter, *http.Request) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before = f
}

// count is how often files were asked for whose name ends in suffix.
func (w *world) count(suffix string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, k := range w.requests {
		if strings.HasSuffix(name, suffix) {
			n += k
		}
	}
	return n
}

// add puts a path with some files into the cache.
func (w *world) add(name string, refs ...*pathinfo.PathInfo) *pathinfo.PathInfo {
	w.t.Helper()
	ctx := context.Background()
	dir := filepath.Join(w.t.TempDir(), name)
	files := map[string]string{"bin/" + name: "#!/bin/sh\necho " + name + "\n", "share/empty": "", "share/data": strings.Repeat(name, 40_000)}
	for f, content := range files {
		path := filepath.Join(dir, f)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o755)); err != nil {
			w.t.Fatal(err)
		}
	}
	r, err := ingest.Path(ctx, w.from.Blobs, w.from.Directories, dir, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &pathinfo.PathInfo{Node: r.Node, NarSize: r.NarSize, NarSHA256: r.NarSHA256}
	if p.StorePath, err = storepath.FromNARHash(name, r.NarSHA256); err != nil {
		w.t.Fatal(err)
	}
	for _, ref := range refs {
		p.References = append(p.References, ref.StorePath)
	}
	w.put(p)
	return p
}

func (w *world) put(p *pathinfo.PathInfo) {
	w.t.Helper()
	if _, err := w.from.PathInfos.Put(context.Background(), p); err != nil {
		w.t.Fatal(err)
	}
	_, err := w.cache.PutPath(context.Background(), p, binarycache.Upload{Compression: "zstd", WriteNAR: func(to io.Writer) error {
		return castorenar.Write(context.Background(), to, p.Node, w.from.Blobs, w.from.Directories)
	}})
	if err != nil {
		w.t.Fatal(err)
	}
}

// closure is a chain of n paths, each of which refers to the one before and to
// the first. The last one comes last.
func (w *world) closure(n int) []*pathinfo.PathInfo {
	var all []*pathinfo.PathInfo
	for i := range n {
		var refs []*pathinfo.PathInfo
		if i > 0 {
			refs = append(refs, all[i-1])
		}
		if i > 1 {
			refs = append(refs, all[0])
		}
		all = append(all, w.add(fmt.Sprintf("path%d", i), refs...))
	}
	return all
}

// service makes a service in front of store, of the caches at addresses.
func (w *world) service(store Store, o Options, addresses ...string) *Service {
	w.t.Helper()
	var sources []Source
	for _, a := range addresses {
		sources = append(sources, Source{Cache: w.open(a)})
	}
	s, err := New(store, sources, o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = s.Close() })
	return s
}

// check says whether the store has all of a path.
func check(t testing.TB, s Store, want *pathinfo.PathInfo) {
	t.Helper()
	ctx := context.Background()
	got, err := s.PathInfos.Get(ctx, want.StorePath.Hash)
	if err != nil {
		t.Errorf("%s: %v", want.StorePath, err)
		return
	}
	size, sum, err := castorenar.Digest(ctx, got.Node, s.Blobs, s.Directories)
	if err != nil || size != want.NarSize || sum != want.NarSHA256 || len(got.References) != len(want.References) {
		t.Errorf("%s: NAR of %d bytes, %d references, %v", want.StorePath, size, len(got.References), err)
	}
}
