package storefs

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"storeboot/virtiofsd/castore"
	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// stalledBlobs hold their blobs, but not what is in them, until they are let go.
type stalledBlobs struct {
	castore.BlobService
	release chan struct{}
	fail    atomic.Bool
	opens   atomic.Int64
	open    atomic.Bool // it is opening that stalls
}

type stalledBlob struct {
	castore.Blob
	of *stalledBlobs
}

func (s *stalledBlobs) Open(ctx context.Context, d castore.Digest) (castore.Blob, error) {
	s.opens.Add(1)
	if s.open.Load() {
		select {
		case <-s.release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	b, err := s.BlobService.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	return &stalledBlob{b, s}, nil
}

// ReadAt does not know of contexts: who reads must not wait for it.
func (b *stalledBlob) ReadAt(p []byte, off int64) (int, error) {
	if b.of.fail.Load() {
		return len(p) / 2, errors.New("the disk is broken")
	}
	<-b.of.release
	return b.Blob.ReadAt(p, off)
}

// TestStalledStore holds that a store which stalls or fails in the middle of a
// read gives EIO within the limit, that others are served meanwhile, and that
// all is well when the store is.
func TestStalledStore(t *testing.T) {
	for _, stallOpen := range []bool{false, true} {
		store := memoryStore()
		stalled := &stalledBlobs{BlobService: store.Blobs, release: make(chan struct{})}
		stalled.open.Store(stallOpen)
		store.Blobs = stalled
		w := newWorldWith(t, store, Options{ReadTimeout: 100 * time.Millisecond})
		p := w.add("x", tree{"f": "text"})
		f := w.find(p + "/f").NodeId
		read := func() error {
			t.Helper()
			b, err := w.fuse.Call(vt.FuseRead, f, readIn(0, 100), 100)
			if err == nil && string(b) != "text" {
				t.Errorf("read %q", b)
			}
			return err
		}
		for range 3 {
			if err := read(); !errors.Is(err, syscall.EIO) {
				t.Fatalf("a stalled store: %v", err)
			}
		}
		if stallOpen && stalled.opens.Load() > 2 { // one that gave up, one that goes on
			t.Errorf("the blob was asked for %d times", stalled.opens.Load())
		}
		w.find(p + "/f")
		close(stalled.release)
		for deadline := time.Now().Add(time.Minute); read() != nil; {
			if time.Now().After(deadline) {
				t.Fatal("it is not served when the store goes on")
			}
		}
		stalled.fail.Store(true)
		if err := read(); !errors.Is(err, syscall.EIO) {
			t.Errorf("a broken store: %v", err)
		}
		stalled.fail.Store(false)
		if err := read(); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
}

// slowDirectories take their time for a directory, but not for a whole tree.
type slowDirectories struct {
	castore.DirectoryService
	gets atomic.Int64
}

func (s *slowDirectories) Get(ctx context.Context, d castore.Digest) (*castore.Directory, error) {
	s.gets.Add(1)
	time.Sleep(10 * slowGet)
	return s.DirectoryService.Get(ctx, d)
}

// TestGetAhead holds that a tree in a store far away is got whole when its top is
// looked at, once for all who look.
func TestGetAhead(t *testing.T) {
	store := memoryStore()
	slow := &slowDirectories{DirectoryService: store.Directories}
	store.Directories = slow
	w := newWorld(t, store)
	p := w.add("x", sampleTree())
	w.list(w.find(p).NodeId, 4096)
	for deadline := time.Now().Add(time.Minute); w.fs.Caches().DirectoriesAhead.Load() < 10; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing comes ahead")
		}
	}
	for done := false; !done; time.Sleep(time.Millisecond) {
		w.fs.dirs.mu.Lock()
		done = len(w.fs.dirs.ahead) == 0
		w.fs.dirs.mu.Unlock()
	}
	before := slow.gets.Load()
	w.walk(w.find(p).NodeId, "", 4096)
	if n := slow.gets.Load() - before; n > 0 {
		t.Errorf("%d directories were asked for one by one", n)
	}
}
