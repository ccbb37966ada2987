package grpcserver_test

import (
	"context"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/proto/castorev1"
)

func TestUploadMemory(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{UploadMemory: 3000})
	a, b, _, d := dirs(t)
	_, err := putDirectories(t.Context(), w.conn, message(t, a), message(t, b), message(t, d))
	wantCode(t, "a large tree", err, codes.ResourceExhausted, "1500 bytes")
	for range 3 { // what was taken is given back
		if _, err := putDirectories(t.Context(), w.conn, message(t, a)); err != nil {
			t.Errorf("a small tree: %v", err)
		}
	}
}

// TestUploadsMemory has uploads that are small enough each, and do not end: some
// are refused, and what the others took is given back when they are gone.
func TestUploadsMemory(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{UploadMemory: 3000})
	a, b, _, _ := dirs(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	refused := make(chan error, 10)
	for range cap(refused) {
		s, err := castorev1.NewDirectoryServiceClient(w.conn).Put(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range []*castore.Directory{a, b} {
			if err := s.Send(message(t, dir)); err != nil && err != io.EOF {
				t.Fatal(err)
			}
		}
		go func() { refused <- s.RecvMsg(new(castorev1.PutDirectoryResponse)) }()
	}
	wantCode(t, "ten uploads", <-refused, codes.ResourceExhausted, "3000 bytes: try again later")
	cancel()
	for range 1000 {
		_, err := putDirectories(t.Context(), w.conn, message(t, a), message(t, b))
		if err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the memory of uploads that were broken off is not given back")
}

func TestUploadTime(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{UploadTime: 1})
	a, _, _, _ := dirs(t)
	_, err := putDirectories(t.Context(), w.conn, message(t, a))
	wantCode(t, "a slow upload", err, codes.ResourceExhausted, "longer than 1ns")
}

func TestMaxBlob(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{MaxBlob: 1000})
	put := func(size int) error {
		s, err := castorev1.NewBlobServiceClient(w.conn).Put(t.Context())
		if err != nil {
			return err
		}
		for range size {
			if err := s.Send(&castorev1.BlobChunk{Data: []byte("x")}); err != nil && err != io.EOF {
				return err
			}
		}
		_, err = s.CloseAndRecv()
		return err
	}
	if err := put(1000); err != nil {
		t.Errorf("1000 bytes: %v", err)
	}
	wantCode(t, "1001 bytes", put(1001), codes.ResourceExhausted, "more than 1000 bytes")
}

// closing is a blob service that says when a blob of its is closed.
type closing struct {
	castore.BlobService
	closed chan struct{}
}

func (c closing) Open(ctx context.Context, d castore.Digest) (castore.Blob, error) {
	b, err := c.BlobService.Open(ctx, d)
	return closingBlob{b, c.closed}, err
}

type closingBlob struct {
	castore.Blob
	closed chan struct{}
}

func (b closingBlob) Close() error {
	close(b.closed)
	return b.Blob.Close()
}

func TestIdle(t *testing.T) {
	w := newWorld(t)
	d := castoretest.PutBlob(t, w.blobs, castoretest.Pattern(32<<20, 0))
	closed := make(chan struct{})
	w.blobs = closing{w.blobs, closed}
	w.start(t, grpcserver.Options{Idle: 50 * time.Millisecond})
	rpc := castorev1.NewBlobServiceClient(w.conn)
	put, err := rpc.Put(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var reply castorev1.PutBlobResponse
	wantCode(t, "a client that sends nothing", put.RecvMsg(&reply), codes.DeadlineExceeded, "sent nothing")
	// A reader that takes nothing gets what was on its way, and then the end.
	read, err := rpc.Read(t.Context(), &castorev1.ReadBlobRequest{Digest: d[:]})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read.Header(); err != nil {
		t.Fatal(err)
	}
	<-closed // without having read
	_, err = all(read, nil)
	wantCode(t, "a client that takes nothing", err, codes.DeadlineExceeded, "took nothing")
}

func TestMaxMessage(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{MaxMessage: 100 << 10})
	put := func(size int) error {
		s, err := castorev1.NewBlobServiceClient(w.conn).Put(t.Context())
		if err != nil {
			return err
		}
		if err := s.Send(&castorev1.BlobChunk{Data: make([]byte, size)}); err != nil && err != io.EOF {
			return err
		}
		_, err = s.CloseAndRecv()
		return err
	}
	if err := put(99 << 10); err != nil {
		t.Errorf("99 KiB: %v", err)
	}
	wantCode(t, "200 KiB", put(200<<10), codes.ResourceExhausted, "larger than max")
}
