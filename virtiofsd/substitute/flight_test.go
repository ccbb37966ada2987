package substitute

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"storeboot/virtiofsd/binarycache"
)

// patience bounds what a test waits for that has to happen.
const patience = 2 * time.Minute

// eventually fails unless f becomes true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// stalling is a cache whose NARs come when release is closed. began gets one for
// each NAR that was asked for, ended one for each whose client went away.
func stalling(w *world) (release, began, ended chan struct{}) {
	release, began, ended = make(chan struct{}), make(chan struct{}, 100), make(chan struct{}, 100)
	w.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/nar/") {
			return false
		}
		began <- struct{}{}
		select {
		case <-release:
			return false
		case <-r.Context().Done():
			ended <- struct{}{}
			return true
		}
	})
	return release, began, ended
}

// receive waits for c.
func receive(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
	}
}

// TestWait has a cache that stalls: who asks is told so in time, the download
// goes on, and who asks again joins it.
func TestWait(t *testing.T) {
	w := newWorld(t)
	p := w.add("hello")
	release, _, _ := stalling(w)
	store := memoryStore()
	s := w.service(store, Options{Wait: 50 * time.Millisecond}, w.url+unsigned)
	for range 3 {
		if _, err := s.Get(context.Background(), p.StorePath.Hash); !errors.Is(err, ErrSlow) {
			t.Fatalf("%v, want %v", err, ErrSlow)
		}
	}
	close(release)
	eventually(t, "the download ends", func() bool {
		_, err := s.Get(context.Background(), p.StorePath.Hash)
		return err == nil
	})
	check(t, store, p)
	if n := w.count(".zst"); n != 1 {
		t.Errorf("the NAR was asked for %d times", n)
	}
}

// TestAbandoned has guests that go away: with the last of them the download ends,
// its place is free, and the path can be asked for anew.
func TestAbandoned(t *testing.T) {
	w := newWorld(t)
	p := w.add("hello")
	release, began, ended := stalling(w)
	store := memoryStore()
	s := w.service(store, Options{}, w.url+unsigned)
	for range demandSlots + 1 { // more often than there are places
		ctx, cancel := context.WithCancel(context.Background())
		failed := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := s.Get(ctx, p.StorePath.Hash)
				failed <- err
			}()
		}
		receive(t, "the request", began)
		eventually(t, "two wait", func() bool {
			s.flights.mu.Lock()
			defer s.flights.mu.Unlock()
			f := s.flights.all[p.StorePath.Hash]
			return f != nil && f.waiting == 2
		})
		cancel()
		for range 2 {
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		receive(t, "the end of the request", ended)
	}
	close(release)
	if _, err := s.Get(context.Background(), p.StorePath.Hash); err != nil {
		t.Fatal(err)
	}
	check(t, store, p)
}

// TestOneStays has one of two guests go away: the other gets the path by the same
// download.
func TestOneStays(t *testing.T) {
	w := newWorld(t)
	p := w.add("hello")
	release, began, ended := stalling(w)
	s := w.service(memoryStore(), Options{}, w.url+unsigned)
	stays := make(chan error, 1)
	go func() {
		_, err := s.Get(context.Background(), p.StorePath.Hash)
		stays <- err
	}()
	receive(t, "the request", began)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Get(ctx, p.StorePath.Hash); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	close(release)
	if err := <-stays; err != nil {
		t.Error(err)
	}
	if len(ended) != 0 || w.count(".zst") != 1 {
		t.Errorf("%d downloads ended early, the NAR was asked for %d times", len(ended), w.count(".zst"))
	}
}

// TestStallTimeout has a cache that never goes on: the limit of its address ends
// the download, though nobody went away.
func TestStallTimeout(t *testing.T) {
	w := newWorld(t)
	p := w.add("hello")
	stalling(w)
	s := w.service(memoryStore(), Options{Wait: patience}, w.url+unsigned+"&timeout=50ms&retries=1")
	_, err := s.Get(context.Background(), p.StorePath.Hash)
	if !binarycache.Unreachable(err) || errors.Is(err, ErrSlow) {
		t.Errorf("%v", err)
	}
}
