package storecache

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

var errBroken = errors.New("broken on purpose")

// faultyBlobs is a blob service with faults. Functions that are nil are those of
// the service within.
type faultyBlobs struct {
	castore.BlobService
	open   func(context.Context, castore.Digest) (castore.Blob, error)
	create func(context.Context) (castore.BlobWriter, error)
	flush  func(context.Context) error
}

func (s *faultyBlobs) Open(ctx context.Context, d castore.Digest) (castore.Blob, error) {
	if s.open != nil {
		return s.open(ctx, d)
	}
	return s.BlobService.Open(ctx, d)
}

func (s *faultyBlobs) Create(ctx context.Context) (castore.BlobWriter, error) {
	if s.create != nil {
		return s.create(ctx)
	}
	return s.BlobService.Create(ctx)
}

func (s *faultyBlobs) Flush(ctx context.Context) error {
	if s.flush != nil {
		return s.flush(ctx)
	}
	return s.BlobService.Flush(ctx)
}

// fullWriter is a writer to a full disk.
type fullWriter struct{ castore.BlobWriter }

func (fullWriter) Write([]byte) (int, error) { return 0, errBroken }

// lyingBlob has other contents than it should.
type lyingBlob struct{ *bytes.Reader }

func (lyingBlob) Close() error { return nil }

// shortBlob ends before its size.
type shortBlob struct{ *bytes.Reader }

func (b shortBlob) Size() int64 { return b.Reader.Size() + 1 }
func (shortBlob) Close() error  { return nil }

// TestBlobFill holds that a blob of far is in near after it was read, and there
// to stay after Close.
func TestBlobFill(t *testing.T) {
	near, far := openFiles(t), castore.NewMemoryBlobs()
	var digests []castore.Digest
	for i, n := range []int{1, copyBuffer, 3*copyBuffer + 1} {
		digests = append(digests, castoretest.PutBlob(t, far, castoretest.Pattern(n, uint64(i))))
	}
	s := NewBlobs(near, far, nil)
	for _, d := range digests {
		b, err := s.Open(context.Background(), d)
		if err != nil {
			t.Fatal(err)
		}
		if has, err := near.Has(context.Background(), d); !has || err != nil {
			t.Errorf("near does not have %s when it is read: %v", d, err)
		}
		b.Close()
	}
	if err := errors.Join(s.Close(), far.Close()); err != nil {
		t.Fatal(err)
	}
	if err := near.Close(); err != nil { // drops what was not flushed
		t.Fatal(err)
	}
	for _, d := range digests {
		if has, err := near.Has(context.Background(), d); !has || err != nil {
			t.Errorf("near has %s: %v, %v", d, has, err)
		}
	}
}

// TestBlobFaults holds what is read when near or far fails.
func TestBlobFaults(t *testing.T) {
	content := castoretest.Pattern(2*copyBuffer, 9)
	for _, tt := range []struct {
		name string
		near func(*faultyBlobs)
		far  func(*faultyBlobs)
		err  error // nil: the contents are right
	}{
		{"near cannot open", func(f *faultyBlobs) {
			f.open = func(context.Context, castore.Digest) (castore.Blob, error) { return nil, errBroken }
		}, nil, nil},
		{"near cannot create", func(f *faultyBlobs) {
			f.create = func(context.Context) (castore.BlobWriter, error) { return nil, errBroken }
		}, nil, nil},
		{"near is full", func(f *faultyBlobs) {
			f.create = func(ctx context.Context) (castore.BlobWriter, error) {
				w, err := f.BlobService.Create(ctx)
				return fullWriter{w}, err
			}
		}, nil, nil},
		{"near cannot flush", func(f *faultyBlobs) {
			f.flush = func(context.Context) error { return errBroken }
		}, nil, nil},
		{"far cannot open", nil, func(f *faultyBlobs) {
			f.open = func(context.Context, castore.Digest) (castore.Blob, error) { return nil, errBroken }
		}, errBroken},
		{"far sends something else", nil, func(f *faultyBlobs) {
			f.open = func(context.Context, castore.Digest) (castore.Blob, error) {
				return lyingBlob{bytes.NewReader(content[1:])}, nil
			}
		}, errAny},
		{"far sends too little", nil, func(f *faultyBlobs) {
			f.open = func(context.Context, castore.Digest) (castore.Blob, error) {
				return shortBlob{bytes.NewReader(content)}, nil
			}
		}, errAny},
	} {
		t.Run(tt.name, func(t *testing.T) {
			near, far := &faultyBlobs{BlobService: castore.NewMemoryBlobs()}, &faultyBlobs{BlobService: castore.NewMemoryBlobs()}
			d := castoretest.PutBlob(t, far, content)
			if tt.near != nil {
				tt.near(near)
			}
			if tt.far != nil {
				tt.far(far)
			}
			var log bytes.Buffer
			s := NewBlobs(near, far, slog.New(slog.NewTextHandler(&log, nil)))
			got, err := castoretest.GetBlob(s, d)
			switch {
			case tt.err == nil && (err != nil || !bytes.Equal(got, content)):
				t.Errorf("read %d bytes, %v", len(got), err)
			case tt.err == errAny && err == nil, tt.err != nil && tt.err != errAny && !errors.Is(err, tt.err):
				t.Errorf("read %d bytes, %v, want the error %v", len(got), err, tt.err)
			}
			if has, err := near.Has(context.Background(), d); tt.err != nil && has {
				t.Errorf("near has the blob, %v", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if tt.near != nil && !bytes.Contains(log.Bytes(), []byte(errBroken.Error())) {
				t.Errorf("the log does not say what is wrong with near: %q", log.String())
			}
		})
	}
}

// errAny stands for some error.
var errAny = errors.New("any error")

// TestBlobFlush holds that Flush covers what was found in far alone.
func TestBlobFlush(t *testing.T) {
	ctx := context.Background()
	var nearFlushes, farFlushes atomic.Int32
	var farErr error
	near := &faultyBlobs{BlobService: castore.NewMemoryBlobs(), flush: func(context.Context) error { nearFlushes.Add(1); return nil }}
	far := &faultyBlobs{BlobService: castore.NewMemoryBlobs(), flush: func(context.Context) error { farFlushes.Add(1); return farErr }}
	d := castoretest.PutBlob(t, far, []byte("x"))
	s := NewBlobs(near, far, nil)
	defer s.Close()
	check := func(what string, err error, wantNear, wantFar int32) {
		t.Helper()
		if err != nil || nearFlushes.Load() != wantNear || farFlushes.Load() != wantFar {
			t.Errorf("%s: %v, %d flushes of near, %d of far, want %d and %d", what, err, nearFlushes.Load(), farFlushes.Load(), wantNear, wantFar)
		}
	}
	check("nothing found", s.Flush(ctx), 1, 0)
	if has, err := s.Has(ctx, d); !has || err != nil {
		t.Fatal(has, err)
	}
	farErr = errBroken
	if err := s.Flush(ctx); !errors.Is(err, errBroken) {
		t.Errorf("Flush does not fail with far: %v", err)
	}
	farErr = nil
	check("found in far, second try", s.Flush(ctx), 3, 2)
	check("nothing found since", s.Flush(ctx), 4, 2)
}
