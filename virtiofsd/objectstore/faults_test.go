package objectstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/fastcdc"
	"storeboot/virtiofsd/objectstore/bucket"
)

// failing is a bucket that fails, waits or counts as a test wants.
type failing struct {
	bucket.Bucket
	gets, puts atomic.Int64
	get        func(key string) error
	put        func(key string) error
}

func (f *failing) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	f.gets.Add(1)
	if f.get != nil {
		if err := f.get(key); err != nil {
			return nil, err
		}
	}
	return f.Bucket.Get(ctx, key, limit)
}

func (f *failing) Put(ctx context.Context, key string, data []byte) error {
	f.puts.Add(1)
	if f.put != nil {
		if err := f.put(key); err != nil {
			return err
		}
	}
	return f.Bucket.Put(ctx, key, data)
}

func newFailing(t *testing.T) (*failing, *Blobs) {
	t.Helper()
	a, err := bucket.ParseAddress("memory:///")
	if err != nil {
		t.Fatal(err)
	}
	inner, err := bucket.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	f := &failing{Bucket: inner}
	sizes, err := fastcdc.NewSizes(4096)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newBlobs(f, sizes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, s
}

// TestFailedPut holds that a blob whose chunk or index cannot be stored is not
// there, and that the error of the bucket comes through.
func TestFailedPut(t *testing.T) {
	disk := errors.New("the disk is full")
	for _, space := range []space{chunkSpace, blobSpace} {
		f, s := newFailing(t)
		content := castoretest.Pattern(300_000, 1)
		var n atomic.Int64
		f.put = func(key string) error {
			if strings.HasPrefix(key, string(space)) && (space == blobSpace || n.Add(1) == 20) {
				return disk
			}
			return nil
		}
		w, err := s.Create(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, writeErr := io.Copy(w, bytes.NewReader(content))
		d, err := w.Close()
		if !errors.Is(err, disk) || writeErr != nil && !errors.Is(writeErr, disk) {
			t.Errorf("%s: Write: %v, Close = %s, %v", space, writeErr, d, err)
		}
		w.Abort()
		if has, err := s.Has(t.Context(), digest(content)); has || err != nil {
			t.Errorf("%s: Has = %v, %v", space, has, err)
		}
		f.put = nil
		checkRead(t, s, castoretest.PutBlob(t, s, content), content) // a rerun completes
	}
}

// TestFailedGet holds that a chunk that could not be read is read again by the
// next who asks.
func TestFailedGet(t *testing.T) {
	f, s := newFailing(t)
	content := castoretest.Pattern(300_000, 1)
	d := castoretest.PutBlob(t, s, content)
	down := errors.New("the server is down")
	var last atomic.Bool
	f.get = func(string) error {
		if last.Load() {
			return nil
		}
		return down
	}
	if _, err := castoretest.GetBlob(s, d); !errors.Is(err, down) {
		t.Errorf("Get: %v", err)
	}
	last.Store(true)
	checkRead(t, s, d, content)
}

// TestOneLoad holds that a chunk that several want is loaded once, and then held.
func TestOneLoad(t *testing.T) {
	f, s := newFailing(t)
	content := castoretest.Pattern(2000, 1)
	d := castoretest.PutBlob(t, s, content)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 10 {
				if got, err := castoretest.GetBlob(s, d); err != nil || !bytes.Equal(got, content) {
					t.Errorf("read %d bytes, %v", len(got), err)
				}
			}
		})
	}
	wg.Wait()
	if n := f.gets.Load(); n != 1 {
		t.Errorf("%d requests for one chunk", n)
	}
}

// TestReadAhead holds that who reads in order has the next chunks loaded, and
// who does not, not.
func TestReadAhead(t *testing.T) {
	f, s := newFailing(t)
	content := castoretest.Pattern(300_000, 1)
	d := castoretest.PutBlob(t, s, content)
	b, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	read := func(chunk int) int64 {
		t.Helper()
		before := f.gets.Load()
		inner := b.(*blob)
		p := make([]byte, inner.chunks[chunk].size)
		if _, err := b.ReadAt(p, inner.ends[chunk]-int64(len(p))); err != nil {
			t.Fatal(err)
		}
		s.cache.loading.Wait()
		return f.gets.Load() - before
	}
	for _, tt := range []struct {
		chunk int
		want  int64
	}{
		{30, 1}, {20, 1}, {25, 1}, // anywhere
		{0, 1}, {1, 1 + readAhead}, {2, 1}, // in order
		{2, 0}, {5, 0},
	} {
		if got := read(tt.chunk); got != tt.want {
			t.Errorf("chunk %d: %d requests, want %d", tt.chunk, got, tt.want)
		}
	}
}

// TestClosed holds that a reader of a closed blob or service gets an error.
func TestClosed(t *testing.T) {
	_, s := newFailing(t)
	d := castoretest.PutBlob(t, s, castoretest.Pattern(300_000, 1))
	b, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	if n, err := b.ReadAt(make([]byte, 10), 0); err == nil {
		t.Errorf("ReadAt of a closed blob = %d", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), castore.Digest{1}); err == nil || errors.Is(err, castore.ErrNotFound) {
		t.Errorf("Open in a closed service: %v", err)
	}
	if _, err := s.Create(t.Context()); err == nil {
		t.Error("Create in a closed service succeeds")
	}
}

func TestChunkCache(t *testing.T) {
	var loads atomic.Int64
	c := newChunkCache(250, func(d castore.Digest) ([]byte, error) {
		loads.Add(1)
		return make([]byte, 100), nil
	})
	get := func(n byte) {
		t.Helper()
		if data, err := c.get(context.Background(), castore.Digest{n}); err != nil || len(data) != 100 {
			t.Errorf("%d bytes, %v", len(data), err)
		}
	}
	for _, n := range []byte{1, 2, 1, 3, 1, 2} { // 2 goes for 3, as 1 was used later
		get(n)
	}
	c.mu.Lock()
	if loads.Load() != 4 || c.bytes != 200 || len(c.chunks) != 2 {
		t.Errorf("%d loads, %d bytes in %d chunks are held", loads.Load(), c.bytes, len(c.chunks))
	}
	c.mu.Unlock()
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.get(canceled, castore.Digest{9}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled get: %v", err)
	}
	c.close()
	if _, err := c.get(context.Background(), castore.Digest{1}); !errors.Is(err, errServiceClosed) {
		t.Errorf("get after close: %v", err)
	}
}

func TestAverageParameter(t *testing.T) {
	for _, bad := range []string{"x", "0", "255", "4194304"} {
		if s, err := OpenBlobs(t.Context(), "objectstore+memory:///?avg_chunk_size="+bad); err == nil || !strings.Contains(err.Error(), "avg_chunk_size") {
			t.Errorf("avg_chunk_size=%s: %v, %v", bad, s, err)
		}
	}
	if s, err := OpenDirectories(t.Context(), "objectstore+memory:///?avg_chunk_size=4096"); err == nil || !strings.Contains(err.Error(), "avg_chunk_size") {
		t.Errorf("directories take avg_chunk_size: %v, %v", s, err)
	}
}
