package substitute

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/pathinfo"
)

const unsigned = "?allow-unsigned=1"

func TestOneDownloadForAllWhoAsk(t *testing.T) {
	w := newWorld(t)
	p := w.add("hello")
	release := make(chan struct{})
	w.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/nar/") {
			<-release
		}
		return false
	})
	store := memoryStore()
	s := w.service(store, Options{}, w.url+unsigned)
	var wg sync.WaitGroup
	var asking atomic.Int32
	for range 64 {
		wg.Go(func() {
			asking.Add(1)
			if got, err := s.Get(context.Background(), p.StorePath.Hash); err != nil || got.StorePath != p.StorePath {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	eventually(t, "all ask", func() bool { return asking.Load() == 64 && w.count(".zst") > 0 })
	if _, err := store.PathInfos.Get(context.Background(), p.StorePath.Hash); !errors.Is(err, pathinfo.ErrNotFound) {
		t.Errorf("the path is in the store before its NAR is: %v", err)
	}
	close(release)
	wg.Wait()
	check(t, store, p)
	if n := w.count(""); n != 3 { // nix-cache-info, narinfo, NAR
		t.Errorf("%d requests", n)
	}
	// The store has it now: no request.
	again := w.service(store, Options{Prefetch: true}, w.url+unsigned)
	if _, err := again.Get(context.Background(), p.StorePath.Hash); err != nil || w.count("") != 3 {
		t.Errorf("%v; %d requests", err, w.count(""))
	}
}

func TestMissingIsRemembered(t *testing.T) {
	w := newWorld(t)
	s := w.service(memoryStore(), Options{NegativeTTL: time.Hour}, w.url+unsigned)
	for range 3 {
		if _, err := s.Get(context.Background(), storepath.Hash{1}); !errors.Is(err, pathinfo.ErrNotFound) {
			t.Fatal(err)
		}
	}
	if n := w.count(".narinfo"); n != 1 {
		t.Errorf("%d requests", n)
	}
	m := newMissing(time.Hour)
	for i := range maxMissing + 10 {
		m.add(storepath.Hash{byte(i), byte(i >> 8), byte(i >> 16)})
	}
	if len(m.until) > maxMissing {
		t.Errorf("%d missing paths are remembered", len(m.until))
	}
	// It is looked for again after a while.
	later := w.service(memoryStore(), Options{NegativeTTL: time.Nanosecond}, w.url+unsigned)
	p := pathOf(w)
	if _, err := later.Get(context.Background(), p); !errors.Is(err, pathinfo.ErrNotFound) {
		t.Fatal(err)
	}
	w.add("late")
	if _, err := later.Get(context.Background(), p); err != nil {
		t.Errorf("found later: %v", err)
	}
}

// pathOf is the hash that the path "late" will have.
func pathOf(w *world) storepath.Hash {
	other := newWorld(w.t)
	return other.add("late").StorePath.Hash
}

func TestPrefetchFollowsReferences(t *testing.T) {
	w := newWorld(t)
	all := w.closure(12)
	store := memoryStore()
	s := w.service(store, Options{Prefetch: true}, w.url+unsigned)
	if _, err := s.Get(context.Background(), all[11].StorePath.Hash); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are fetched", func() bool {
		if p := s.Progress(); p.PathsFailed > 0 {
			t.Fatalf("%+v", p)
		}
		return s.Progress().PathsDone == 12
	})
	for _, p := range all {
		check(t, store, p)
	}
	p := s.Progress()
	if p.PathsKnown != 12 || p.BytesDone != p.BytesKnown || p.Requests != 25 {
		t.Errorf("%+v", p)
	}
	// The second time nothing is asked for, though the references are followed.
	before := w.count("")
	again := w.service(store, Options{Prefetch: true}, w.url+unsigned)
	if _, err := again.Get(context.Background(), all[11].StorePath.Hash); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are looked at", func() bool { return again.Progress().PathsDone == 12 })
	if n := w.count(""); n != before {
		t.Errorf("%d requests for what is there", n-before)
	}
}

func TestFetchStoresReferencesFirst(t *testing.T) {
	w := newWorld(t)
	all := w.closure(20)
	store := memoryStore()
	order := &ordered{Service: store.PathInfos, t: t}
	store.PathInfos = order
	s := w.service(store, Options{}, w.url+unsigned)
	got, err := s.Fetch(context.Background(), []storepath.StorePath{all[19].StorePath})
	if err != nil || len(got) != 20 {
		t.Fatalf("%d paths, %v", len(got), err)
	}
	for i, f := range got {
		if f.Info.StorePath != all[i].StorePath || !f.New {
			t.Errorf("%d: %s, new %v", i, f.Info.StorePath, f.New)
		}
		check(t, store, all[i])
	}
	before := w.count("")
	got, err = s.Fetch(context.Background(), []storepath.StorePath{all[19].StorePath})
	if err != nil || len(got) != 20 || got[0].New || w.count("") != before {
		t.Errorf("again: %d paths, %d requests, %v", len(got), w.count("")-before, err)
	}
}

// ordered fails if a path is put before what it refers to.
type ordered struct {
	pathinfo.Service
	t *testing.T
}

func (o *ordered) Put(ctx context.Context, p *pathinfo.PathInfo) (*pathinfo.PathInfo, error) {
	for _, r := range p.References {
		if _, err := o.Get(ctx, r.Hash); err != nil {
			o.t.Errorf("%s is stored before %s", p.StorePath, r)
		}
	}
	return o.Service.Put(ctx, p)
}

func TestFetchRefuses(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("a"), w.add("b")
	a.References, b.References = []storepath.StorePath{b.StorePath}, []storepath.StorePath{a.StorePath}
	w.put(a)
	w.put(b)
	s := w.service(memoryStore(), Options{}, w.url+unsigned)
	if _, err := s.Fetch(context.Background(), []storepath.StorePath{a.StorePath}); err == nil || !strings.Contains(err.Error(), "refer to each other") {
		t.Errorf("a circle: %v", err)
	}
	gone := w.add("gone")
	gone.References = []storepath.StorePath{{Hash: storepath.Hash{9}, Name: "nowhere"}}
	w.put(gone)
	if _, err := s.Fetch(context.Background(), []storepath.StorePath{gone.StorePath}); !errors.Is(err, pathinfo.ErrNotFound) || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a reference that is missing: %v", err)
	}
	other := a.StorePath
	other.Name = "c"
	if _, err := s.Fetch(context.Background(), []storepath.StorePath{other}); !errors.Is(err, pathinfo.ErrNotFound) {
		t.Errorf("another name: %v", err)
	}
	if got, _ := s.local(context.Background(), a.StorePath.Hash); got != nil {
		t.Error("something of it is in the store")
	}
}

func TestPrioritiesAndFallback(t *testing.T) {
	good, bad := newWorld(t), newWorld(t)
	p := good.add("hello")
	bad.add("hello")
	bad.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/nar/") {
			return false
		}
		_, _ = io.WriteString(rw, "lies")
		return true
	})
	store := memoryStore()
	// The bad one comes first by its number, although it is named last.
	s := good.service(store, Options{}, good.url+unsigned+"&priority=9", bad.url+unsigned+"&priority=1")
	if _, err := s.Get(context.Background(), p.StorePath.Hash); err != nil {
		t.Fatal(err)
	}
	check(t, store, p)
	if bad.count(".narinfo") == 0 || good.count(".narinfo") != 1 {
		t.Errorf("%d and %d requests", bad.count(".narinfo"), good.count(".narinfo"))
	}
}

// TestDownIsNoAbsence has a cache that is down: the path may be there.
func TestDownIsNoAbsence(t *testing.T) {
	w := newWorld(t)
	p := w.add("hello")
	w.intercept(func(rw http.ResponseWriter, _ *http.Request) bool { rw.WriteHeader(500); return true })
	empty := newWorld(t)
	s := w.service(memoryStore(), Options{}, w.url+unsigned+"&retries=0", empty.url+unsigned)
	for range 3 {
		if _, err := s.Get(context.Background(), p.StorePath.Hash); err == nil || errors.Is(err, pathinfo.ErrNotFound) {
			t.Errorf("%v", err)
		}
	}
	if n := w.count(""); n != 1 {
		t.Errorf("a cache that is down was asked %d times", n)
	}
}

// TestCacheThatChanges has a narinfo that no longer fits its NAR when that is
// read, and fits again afterwards.
func TestCacheThatChanges(t *testing.T) {
	w := newWorld(t)
	p := w.add("hello")
	var first atomic.Bool
	w.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/nar/") && first.CompareAndSwap(false, true) {
			http.NotFound(rw, r)
			return true
		}
		return false
	})
	store := memoryStore()
	s := w.service(store, Options{}, w.url+unsigned)
	if _, err := s.Get(context.Background(), p.StorePath.Hash); err != nil {
		t.Error(err)
	}
	check(t, store, p)
}

// TestLies has caches whose narinfos are wrong: nothing becomes visible.
func TestLies(t *testing.T) {
	for _, tt := range []struct{ name, key, value, want string }{
		{"hash", "NarHash", "sha256:" + strings.Repeat("1", 52), "does not have the hash"},
		{"size", "NarSize", "640000", "its narinfo says"},
		{"content address", "CA", "fixed:r:sha256:" + strings.Repeat("1", 52), "content address"},
		{"NAR that is missing", "URL", "nar/nothing.nar.zst", "not its NAR"},
		{"NAR elsewhere", "URL", "../../../etc/passwd", "not its NAR"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			p := w.add("hello")
			text, err := http.Dir(w.dir).Open("/" + p.StorePath.Hash.String() + ".narinfo")
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(text)
			_ = text.Close()
			var lines []string
			for line := range strings.Lines(string(b)) {
				if !strings.HasPrefix(line, tt.key+":") {
					lines = append(lines, line)
				}
			}
			lie := strings.Join(lines, "") + tt.key + ": " + tt.value + "\n"
			w.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
				if filepath.Ext(r.URL.Path) != ".narinfo" {
					return false
				}
				_, _ = io.WriteString(rw, lie)
				return true
			})
			store := memoryStore()
			s := w.service(store, Options{}, w.url+unsigned)
			if _, err := s.Get(context.Background(), p.StorePath.Hash); err == nil || errors.Is(err, pathinfo.ErrNotFound) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			for p := range store.PathInfos.List(context.Background()) {
				t.Errorf("%s is in the store", p.StorePath)
			}
		})
	}
}

func TestCloseEndsDownloads(t *testing.T) {
	w := newWorld(t)
	p := w.add("hello")
	reached := make(chan struct{})
	var once sync.Once
	w.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/nar/") {
			once.Do(func() { close(reached) })
			<-r.Context().Done()
		}
		return false
	})
	s := w.service(memoryStore(), Options{Prefetch: true}, w.url+unsigned)
	failed := make(chan error)
	go func() {
		_, err := s.Get(context.Background(), p.StorePath.Hash)
		failed <- err
	}()
	receive(t, "the request", reached)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-failed:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(patience):
		t.Fatal("the download does not end")
	}
	if _, err := s.Get(context.Background(), p.StorePath.Hash); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestPathTimeout has a path that would take for ever.
func TestPathTimeout(t *testing.T) {
	w := newWorld(t)
	p := w.add("hello")
	w.intercept(func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
	s := w.service(memoryStore(), Options{PathTimeout: 50 * time.Millisecond}, w.url+unsigned)
	if _, err := s.Get(context.Background(), p.StorePath.Hash); err == nil || !strings.Contains(err.Error(), "more than 50ms") {
		t.Error(err)
	}
}
