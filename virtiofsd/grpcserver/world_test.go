package grpcserver_test

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/pathinfo"
)

// world is a store, a server of it and a plain client, which knows nothing of
// our codec.
type world struct {
	blobs       castore.BlobService
	directories castore.DirectoryService
	pathInfos   pathinfo.Service
	conn        *grpc.ClientConn
}

func newWorld(t testing.TB) *world {
	return &world{blobs: castore.NewMemoryBlobs(), directories: castore.NewMemoryDirectories(), pathInfos: pathinfo.NewMemory()}
}

func (w *world) start(t testing.TB, o grpcserver.Options) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpcserver.New(w.blobs, w.directories, w.pathInfos, o)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	w.conn, err = grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.conn.Close()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return w
}

// tvix is a connection on which the methods of snix are called by tvix's names.
type tvix struct{ *grpc.ClientConn }

func (c tvix) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return c.ClientConn.Invoke(ctx, strings.Replace(method, "/snix.", "/tvix.", 1), args, reply, opts...)
}

func (c tvix) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.ClientConn.NewStream(ctx, desc, strings.Replace(method, "/snix.", "/tvix.", 1), opts...)
}

// eachName runs a test under both names.
func eachName(t *testing.T, w *world, test func(*testing.T, grpc.ClientConnInterface)) {
	t.Run("snix", func(t *testing.T) { test(t, w.conn) })
	t.Run("tvix", func(t *testing.T) { test(t, tvix{w.conn}) })
}

func wantCode(t *testing.T, what string, err error, want codes.Code, text string) {
	t.Helper()
	if status.Code(err) != want || !strings.Contains(status.Convert(err).Message(), text) {
		t.Errorf("%s: %v, want %v with %q", what, err, want, text)
	}
}

// all receives to the end.
func all[T any](s grpc.ServerStreamingClient[T], err error) ([]*T, error) {
	var list []*T
	for err == nil {
		var m *T
		if m, err = s.Recv(); err == nil {
			list = append(list, m)
		}
	}
	if err == io.EOF {
		err = nil
	}
	return list, err
}
