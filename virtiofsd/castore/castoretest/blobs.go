package castoretest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
)

// TestBlobs tests the services that open makes. Each call gets an empty one,
// which the suite closes.
func TestBlobs(t *testing.T, open func(*testing.T) castore.BlobService) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, castore.BlobService)
	}{
		{"RoundTrip", testBlobRoundTrip},
		{"Absent", testBlobAbsent},
		{"Empty", testBlobEmpty},
		{"Abort", testBlobAbort},
		{"Repeat", testBlobRepeat},
		{"ReadAt", testBlobReadAt},
		{"Canceled", testBlobCanceled},
		{"Concurrent", testBlobConcurrent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			tt.test(t, s)
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

func checkBlob(t *testing.T, s castore.BlobService, d castore.Digest, want []byte) {
	t.Helper()
	if has, err := s.Has(context.Background(), d); !has || err != nil {
		t.Errorf("Has = %v, %v for a blob that was stored", has, err)
	}
	got, err := GetBlob(s, d)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("blob of %d bytes: read %d bytes, error %v", len(want), len(got), err)
	}
}

func testBlobRoundTrip(t *testing.T, s castore.BlobService) {
	sizes := []int{1, 2, 100, 4095, 4096, 4097, 256<<10 - 1, 256 << 10, 256<<10 + 1, 1 << 20, 3<<20 + 7}
	digests := map[int]castore.Digest{}
	for i, size := range sizes {
		b := Pattern(size, 0)
		d, err := putBlob(s, b, []int{1 << 20, 1000, 4096}[i%3])
		if err != nil {
			t.Fatal(err)
		}
		if want := castore.Digest(blake3.Sum256(b)); d != want {
			t.Fatalf("%d bytes: digest %s, want %s", size, d, want)
		}
		checkBlob(t, s, d, b) // before the flush
		digests[size] = d
	}
	if err := s.Flush(context.Background()); err != nil {
		t.Fatalf("Flush: %v", err)
	}
	for size, d := range digests {
		checkBlob(t, s, d, Pattern(size, 0))
	}
	// The digests of spec/store.md 8.
	for text, want := range map[string]string{
		"Hello World":  "41f8394111eb713a22165c46c90ab8f0fd9399c92028fd6d288944b23ff5bf76",
		"Hello World!": "5ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c",
		"\x00\x01":     "7b7015bb92cf0b318037702a6cdd81dee41224f734684c2c122cd6359cb1ee63",
	} {
		if d := PutBlob(t, s, []byte(text)); d.Hex() != want {
			t.Errorf("%q has the digest %s, want %s", text, d.Hex(), want)
		}
	}
}

func testBlobAbsent(t *testing.T, s castore.BlobService) {
	d := castore.Digest{1}
	if has, err := s.Has(context.Background(), d); has || err != nil {
		t.Errorf("Has = %v, %v", has, err)
	}
	if b, err := s.Open(context.Background(), d); !errors.Is(err, castore.ErrNotFound) {
		t.Errorf("Open = %v, %v, want ErrNotFound", b, err)
	}
}

func testBlobEmpty(t *testing.T, s castore.BlobService) {
	checkBlob(t, s, castore.EmptyBlob, nil)
	if d := PutBlob(t, s, nil); d != castore.EmptyBlob {
		t.Errorf("the empty blob has the digest %s", d)
	}
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	checkBlob(t, s, castore.EmptyBlob, nil)
	b, err := s.Open(context.Background(), castore.EmptyBlob)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if n, err := b.ReadAt(make([]byte, 1), 0); n != 0 || err != io.EOF {
		t.Errorf("ReadAt of the empty blob = %d, %v", n, err)
	}
}

func testBlobAbort(t *testing.T, s castore.BlobService) {
	for _, size := range []int{0, 10, 1 << 20} {
		content := Pattern(size, 1)
		w, err := s.Create(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		w.Abort()
		w.Abort()
		if _, err := w.Write([]byte("x")); err == nil {
			t.Error("Write after Abort succeeds")
		}
		if _, err := w.Close(); err == nil {
			t.Error("Close after Abort succeeds")
		}
		if size == 0 {
			continue
		}
		if has, err := s.Has(context.Background(), castore.Digest(blake3.Sum256(content))); has || err != nil {
			t.Errorf("aborted blob of %d bytes: Has = %v, %v", size, has, err)
		}
	}
	// After Close, Abort does nothing and Close fails.
	w, err := s.Create(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("kept")); err != nil {
		t.Fatal(err)
	}
	d, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if _, err := w.Close(); err == nil {
		t.Error("second Close succeeds")
	}
	checkBlob(t, s, d, []byte("kept"))
}

func testBlobRepeat(t *testing.T, s castore.BlobService) {
	for _, size := range []int{5, 1 << 20} {
		b := Pattern(size, 2)
		first := PutBlob(t, s, b)
		for range 3 {
			if d := PutBlob(t, s, b); d != first {
				t.Errorf("digest %s, before %s", d, first)
			}
			if err := s.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		checkBlob(t, s, first, b)
	}
}

func testBlobReadAt(t *testing.T, s castore.BlobService) {
	content := Pattern(100_000, 3)
	b, err := s.Open(context.Background(), PutBlob(t, s, content))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.Size() != int64(len(content)) {
		t.Fatalf("Size = %d", b.Size())
	}
	for _, tt := range []struct {
		off  int64
		n    int
		want int
		err  error
	}{
		{0, 10, 10, nil},
		{99_990, 10, 10, nil},
		{99_990, 20, 10, io.EOF},
		{100_000, 1, 0, io.EOF},
		{1 << 40, 1, 0, io.EOF},
	} {
		p := make([]byte, tt.n)
		n, err := b.ReadAt(p, tt.off)
		// At the very end a reader may say io.EOF with the last bytes.
		if n != tt.want || err != tt.err && !(err == io.EOF && tt.off+int64(n) == b.Size()) {
			t.Errorf("ReadAt %d bytes at %d = %d, %v", tt.n, tt.off, n, err)
		}
		if n > 0 && !bytes.Equal(p[:n], content[tt.off:tt.off+int64(n)]) {
			t.Errorf("ReadAt at %d: other bytes", tt.off)
		}
	}
	if f, ok := b.(castore.FileBlob); ok {
		p := make([]byte, len(content))
		if err := f.Prove(0, f.Size()); err != nil {
			t.Errorf("Prove: %v", err)
		}
		if _, err := f.File().ReadAt(p, f.Offset()); err != nil || !bytes.Equal(p, content) {
			t.Errorf("the file of the blob has other contents, %v", err)
		}
	}
}

func testBlobCanceled(t *testing.T, s castore.BlobService) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Has(ctx, castore.Digest{1}); !errors.Is(err, context.Canceled) {
		t.Errorf("Has: %v", err)
	}
	if w, err := s.Create(ctx); !errors.Is(err, context.Canceled) {
		w.Abort()
		t.Errorf("Create: %v", err)
	}
	if err := s.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Flush: %v", err)
	}
}

// testBlobConcurrent has writers of the same and of other blobs, flushes and
// readers side by side.
func testBlobConcurrent(t *testing.T, s castore.BlobService) {
	const workers, blobs = 8, 40
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range blobs {
				seed := uint64(i) // the same for all workers
				if i%4 == 0 {
					seed = uint64(1000 + w*blobs + i)
				}
				content := Pattern(1000*i+1, seed)
				d, err := putBlob(s, content, 7000)
				if err != nil {
					t.Errorf("put: %v", err)
					return
				}
				if i%8 == w {
					if err := s.Flush(context.Background()); err != nil {
						t.Errorf("Flush: %v", err)
					}
				}
				got, err := GetBlob(s, d)
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("worker %d, blob %d: read %d bytes, %v", w, i, len(got), err)
				}
			}
		})
	}
	wg.Wait()
}
