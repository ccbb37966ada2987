package objectstore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

// forget makes the service one that has stored and read nothing.
func forget(s *Blobs) {
	s.cache = newChunkCache(cacheSize, s.loadChunk)
	s.proofs = newProofs()
}

// TestProvedOnce holds that all of a blob is read before its first byte goes
// out, once for all who have it open, and never again.
func TestProvedOnce(t *testing.T) {
	f, s := newFailing(t)
	content := castoretest.Pattern(300_000, 1)
	d := castoretest.PutBlob(t, s, content)
	chunks, _, err := s.chunks(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	forget(s)
	before := f.gets.Load()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { checkReadAt(t, s, d, content, int64(i*30_000)) })
	}
	wg.Wait()
	// Each Open asks for a chunk of the blob's digest, then for the index.
	if n := f.gets.Load() - before; n < int64(len(chunks)) || n > int64(len(chunks)+2*8) {
		t.Errorf("%d requests for %d chunks", n, len(chunks))
	}
	s.cache = newChunkCache(cacheSize, s.loadChunk)
	before = f.gets.Load()
	checkReadAt(t, s, d, content, 200_000)
	if n := f.gets.Load() - before; n > 5 {
		t.Errorf("%d requests for a read of a blob that is known", n)
	}
}

func checkReadAt(t *testing.T, s castore.BlobService, d castore.Digest, content []byte, off int64) {
	t.Helper()
	b, err := s.Open(context.Background(), d)
	if err != nil {
		t.Error(err)
		return
	}
	defer b.Close()
	got := make([]byte, 1000)
	if _, err := b.ReadAt(got, off); err != nil || !bytes.Equal(got, content[off:off+1000]) {
		t.Errorf("read at %d: %v", off, err)
	}
}

// TestProofRepeated holds that a proof that could not be made, as the bucket
// failed, is tried again by the next read.
func TestProofRepeated(t *testing.T) {
	f, s := newFailing(t)
	content := castoretest.Pattern(300_000, 1)
	d := castoretest.PutBlob(t, s, content)
	forget(s)
	b, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	down := errors.New("the server is down")
	var fails atomic.Bool
	fails.Store(true)
	// Chunks are loaded ahead, so that there may be a load at any time.
	s.cache.loading.Wait()
	f.get = func(string) error {
		if fails.Load() {
			return down
		}
		return nil
	}
	if _, err := b.ReadAt(make([]byte, 10), 100); !errors.Is(err, down) {
		t.Errorf("ReadAt: %v", err)
	}
	fails.Store(false)
	s.cache.loading.Wait()
	got := make([]byte, 10)
	if _, err := b.ReadAt(got, 100); err != nil || !bytes.Equal(got, content[100:110]) {
		t.Errorf("second ReadAt: %v", err)
	}
}

// TestIndexChanges holds that what was proved of one index is not taken for
// another one.
func TestIndexChanges(t *testing.T) {
	f, s := newFailing(t)
	d := castoretest.PutBlob(t, s, castoretest.Pattern(300_000, 1))
	chunks, _, err := s.chunks(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	chunks[0], chunks[1] = chunks[1], chunks[0]
	if err := f.Put(t.Context(), blobSpace.key(d), encodeIndex(chunks)); err != nil {
		t.Fatal(err)
	}
	if got, err := castoretest.GetBlob(s, d); err == nil || len(got) > 0 || !strings.Contains(err.Error(), "make up") {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}

// TestSpooled has blobs that the cache is too small for.
func TestSpooled(t *testing.T) {
	content := castoretest.Pattern(300_000, 1)
	for _, dir := range []string{t.TempDir(), "/no/such/dir"} { // without a place for it, chunks do
		f, s := newFailing(t)
		d := castoretest.PutBlob(t, s, content)
		forget(s)
		s.unspooled, s.spoolDir = 1000, dir
		b, err := s.Open(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(content)-5)
		if _, err := b.ReadAt(got, 5); err != nil || !bytes.Equal(got, content[5:]) {
			t.Errorf("%s: ReadAt: %v", dir, err)
		}
		s.cache = newChunkCache(cacheSize, s.loadChunk)
		before := f.gets.Load()
		if _, err := b.ReadAt(got[:10], 200_000); err != nil || !bytes.Equal(got[:10], content[200_000:200_010]) {
			t.Errorf("%s: second ReadAt: %v", dir, err)
		}
		if again := f.gets.Load() > before; again != (dir == "/no/such/dir") {
			t.Errorf("%s: requests for what is spooled: %v", dir, again)
		}
		var wg sync.WaitGroup
		for range 4 { // while it is closed
			wg.Go(func() {
				p := make([]byte, 10)
				if n, err := b.ReadAt(p, 7); err == nil && !bytes.Equal(p, content[7:17]) {
					t.Errorf("ReadAt = %d %x", n, p)
				}
			})
		}
		if err := errors.Join(b.Close(), b.Close()); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if n, err := b.ReadAt(got[:10], 0); err == nil || dir != "/no/such/dir" && !errors.Is(err, fs.ErrClosed) {
			t.Errorf("ReadAt after Close = %d, %v", n, err)
		}
		if dir != "/no/such/dir" {
			if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
				t.Errorf("%v is left, %v", list, err)
			}
		}
	}
}
