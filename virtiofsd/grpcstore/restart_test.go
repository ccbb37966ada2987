package grpcstore_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/castore/fileblobs"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/grpcstore"
)

// machine is a server that can be killed and started again.
type machine struct {
	t      *testing.T
	dir    string
	socket string
	server *grpcserver.Server
	files  castore.BlobService
	done   chan error
}

func startMachine(t *testing.T) *machine {
	m := &machine{t: t, dir: t.TempDir(), socket: filepath.Join(t.TempDir(), "s")}
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *machine) address() string { return "grpc+unix://" + m.socket }

func (m *machine) start() {
	m.t.Helper()
	files, err := fileblobs.Open(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	l, err := net.Listen("unix", m.socket)
	if err != nil {
		m.t.Fatal(err)
	}
	w := memory()
	m.files = files
	m.server = grpcserver.New(files, w.directories, w.pathInfos, grpcserver.Options{})
	m.done = make(chan error, 1)
	go func(s *grpcserver.Server) { m.done <- s.Serve(l) }(m.server)
}

// stop breaks everything off, and drops what was not flushed.
func (m *machine) stop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	m.server.Shutdown(ctx)
	if err := <-m.done; err != nil {
		m.t.Errorf("Serve: %v", err)
	}
	_ = m.files.Close()
}

// connected waits for the connection after a restart.
func (m *machine) connected() *grpcstore.Conn {
	m.t.Helper()
	return dial(m.t, m.address()+"?wait-connect=1", grpcstore.Options{})
}

// TestServerDies kills the server in the middle of a blob.
func TestServerDies(t *testing.T) {
	m := startMachine(t)
	s := m.connected().Blobs()
	w, err := s.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(castoretest.Pattern(1<<20, 0)); err != nil {
		t.Fatal(err)
	}
	m.stop()
	_, err = w.Write(castoretest.Pattern(20<<20, 0))
	d, closeErr := w.Close()
	if err == nil {
		err = closeErr
	}
	wantError(t, "Write", err, m.address())
	if closeErr == nil {
		t.Errorf("stored as %s by a dead server", d)
	}
	m.start()
	if has, err := m.connected().Blobs().Has(t.Context(), castore.Digest{1}); has || err != nil {
		t.Errorf("after the restart: %v, %v", has, err)
	}
}

// TestFlush holds what our server has on the disk when.
func TestFlush(t *testing.T) {
	m := startMachine(t)
	s := m.connected().Blobs()
	ctx := t.Context()
	if err := s.Flush(ctx); err != nil {
		t.Errorf("Flush of nothing: %v", err)
	}
	content := castoretest.Pattern(300_000, 1)
	d := castoretest.PutBlob(t, s, content)
	other, err := fileblobs.Open(m.dir) // sees what is flushed
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if has, err := other.Has(ctx, d); has || err != nil {
		t.Errorf("before Flush: %v, %v: the flush was not put off", has, err)
	}
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if has, err := other.Has(ctx, d); !has || err != nil {
		t.Errorf("after Flush: %v, %v", has, err)
	}
	// A restart when all is flushed loses nothing.
	m.stop()
	m.start()
	again := m.connected().Blobs()
	if got, err := castoretest.GetBlob(again, d); err != nil || !bytes.Equal(got, content) {
		t.Errorf("after the restart: %d bytes, %v", len(got), err)
	}
}

// TestFlushLost holds that a restart between a blob and its Flush is noticed.
func TestFlushLost(t *testing.T) {
	m := startMachine(t)
	c := m.connected()
	s := c.Blobs()
	castoretest.PutBlob(t, s, []byte("lost"))
	m.stop()
	m.start()
	// The connection comes back by itself; until then calls fail.
	flush := func() error {
		for {
			err := s.Flush(t.Context())
			if err == nil || !isUnreachable(err) {
				return err
			}
		}
	}
	wantError(t, "Flush", flush(), "was restarted", "begin again")
	wantError(t, "Flush again", flush(), "was restarted")
	_, err := s.Create(t.Context())
	wantError(t, "Create", err, "was restarted")
	// The same when another blob is stored before Flush.
	s = m.connected().Blobs()
	castoretest.PutBlob(t, s, []byte("lost"))
	m.stop()
	m.start()
	for {
		w, err := s.Create(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err = w.Close(); err == nil || !isUnreachable(err) {
			wantError(t, "Close", err, "was restarted")
			break
		}
	}
}

func isUnreachable(err error) bool {
	return err != nil && bytes.Contains([]byte(err.Error()), []byte("is it running"))
}

// TestClose holds that the last service that is closed closes the connection.
func TestClose(t *testing.T) {
	c := dial(t, serve(t, memory(), grpcserver.Options{}), grpcstore.Options{})
	blobs, directories := c.Blobs(), c.Directories()
	for range 2 {
		if err := blobs.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := directories.Get(t.Context(), castore.Digest{1}); !errors.Is(err, castore.ErrNotFound) {
		t.Errorf("while one is open: %v", err)
	}
	if err := directories.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	_, err := directories.Get(t.Context(), castore.Digest{1})
	wantError(t, "when all are closed", err, "closing")
}
