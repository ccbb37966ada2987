package grpcstore_test

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/castore/fileblobs"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/grpcstore"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
)

// world is a store behind a server.
type world struct {
	blobs       castore.BlobService
	directories castore.DirectoryService
	pathInfos   pathinfo.Service
}

func memory() world {
	return world{castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), pathinfo.NewMemory()}
}

// listen makes a unix socket and the address of it.
func listen(t testing.TB) (net.Listener, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	if len(path) > 100 {
		t.Fatalf("socket path %s is too long: set TMPDIR to a shorter one", path)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return l, "grpc+unix://" + path
}

// serve serves w until the test ends and returns its address.
func serve(t testing.TB, w world, o grpcserver.Options) string {
	t.Helper()
	l, address := listen(t)
	s := grpcserver.New(w.blobs, w.directories, w.pathInfos, o)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // break off what is under way
		s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return address
}

func dial(t testing.TB, address string, o grpcstore.Options) *grpcstore.Conn {
	t.Helper()
	o.SpoolDir = t.TempDir()
	c, err := grpcstore.Dial(context.Background(), address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

// connect connects to an empty store that speaks the names of name.
func connect(t *testing.T, name string) *grpcstore.Conn {
	c := dial(t, serve(t, memory(), grpcserver.Options{}), grpcstore.Options{})
	c.SetName(name)
	return c
}

func TestConformance(t *testing.T) {
	for _, name := range []string{"snix", "tvix"} {
		t.Run(name+"/blobs", func(t *testing.T) {
			castoretest.TestBlobs(t, func(t *testing.T) castore.BlobService { return connect(t, name).Blobs() })
		})
		t.Run(name+"/directories", func(t *testing.T) {
			castoretest.TestDirectories(t, func(t *testing.T) castore.DirectoryService { return connect(t, name).Directories() })
		})
		t.Run(name+"/pathinfos", func(t *testing.T) {
			pathinfotest.TestService(t, func(t *testing.T) pathinfo.Service { return connect(t, name).PathInfos() })
		})
	}
}

// TestConformanceFiles has the blobs in files, where Flush means something.
func TestConformanceFiles(t *testing.T) {
	castoretest.TestBlobs(t, func(t *testing.T) castore.BlobService {
		w := memory()
		files, err := fileblobs.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = files.Close() })
		w.blobs = files
		return dial(t, serve(t, w, grpcserver.Options{}), grpcstore.Options{SpoolMemory: 1000}).Blobs()
	})
}
