package storeaddr

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/pathinfo"
)

// countingListener counts the connections that it accepts.
type countingListener struct {
	net.Listener
	mu sync.Mutex
	n  int
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.n++
		l.mu.Unlock()
	}
	return c, err
}

// TestSharedConnection holds that services of one server share a connection,
// also those that are part of others, and that closing the store ends it.
func TestSharedConnection(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sock")
	raw, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	l := &countingListener{Listener: raw}
	server := grpcserver.New(castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), pathinfo.NewMemory(), grpcserver.Options{})
	served := make(chan error)
	go func() { served <- server.Serve(l) }()

	addr := "grpc+unix://" + socket
	s, err := Open(context.Background(), Addresses{
		Blobs:       addr,
		Directories: "grpc+unix:" + socket, // the same
		PathInfos:   "cache:?near=memory:&far=" + addr,
	})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s)
	if _, err := s.PathInfos.Get(context.Background(), [20]byte{1}); err == nil {
		t.Error("a path info that nobody has")
	}
	if len(s.built.conns) != 1 {
		t.Errorf("%d connections were made", len(s.built.conns))
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Blobs.Has(context.Background(), castore.Digest{1}); err == nil {
		t.Error("the connection is open after Close")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server.Shutdown(ctx)
	if err := <-served; err != nil {
		t.Error(err)
	}
	if l.n != 1 {
		t.Errorf("the server was connected to %d times", l.n)
	}
}
