package narbridge_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/fileblobs"
	"storeboot/virtiofsd/narbridge"
	"storeboot/virtiofsd/sqlitestore"
)

func fileNode() castore.Node { return castore.Node{Kind: castore.KindFile, Digest: castore.EmptyBlob} }

// guarded is a store of files, which can keep collections out.
func guarded(t testing.TB) narbridge.Store {
	t.Helper()
	dir := t.TempDir()
	blobs, err := fileblobs.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlitestore.Open(filepath.Join(dir, "store.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = blobs.Close(), db.Close() })
	return narbridge.Store{Blobs: blobs, Directories: db.Directories(), PathInfos: db.PathInfos()}
}

// dial makes a connection on which a test writes what it wants. What the bridge
// never answers is an error after two minutes.
func dial(t *testing.T, b *bridge) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// inFlight waits until the bridge is at work for n requests, the question itself
// among them.
func (b *bridge) inFlight(n int) {
	b.t.Helper()
	want := fmt.Sprintf("narbridge_requests_in_flight %d\n", n)
	for end := time.Now().Add(2 * time.Minute); !strings.Contains(b.get("/metrics").body, want); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("the bridge never had %d requests in flight", n)
		}
	}
}

// TestSlowClient holds that a client who stops in the middle of a body is told
// so, and one who stops taking an answer is dropped.
func TestSlowClient(t *testing.T) {
	b := newBridge(t, narbridge.Options{Idle: 200 * time.Millisecond})
	nar := treeNAR(t, 16<<20)
	c := dial(t, b)
	if _, err := fmt.Fprintf(c, "PUT /nar/%s.nar HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", sum(nar), len(nar), nar[:1000]); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 408 {
		t.Fatalf("%v, %v", resp, err)
	}
	n := infoOf(nar, "x")
	b.mustPut(nar, n)
	url := b.narURL(n)
	c = dial(t, b)
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", url); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil { // it has begun to send
		t.Fatal(err)
	}
	b.inFlight(1) // it has given up
	if got, _ := io.Copy(io.Discard, c); got >= int64(len(nar)) {
		t.Errorf("a client who takes nothing was sent all %d bytes", got)
	}
	if a := b.get(url); a.body != nar {
		t.Errorf("after that: %d, %d bytes", a.status, len(a.body))
	}
}

// TestDroppedConnection drops the connection in the middle of a NAR, as often as
// NARs are taken at once: nothing is stored and the places are free again.
func TestDroppedConnection(t *testing.T) {
	b := newBridge(t, narbridge.Options{MaxUploads: 2})
	nar := treeNAR(t, 1<<20)
	for range 4 {
		c := dial(t, b)
		if _, err := fmt.Fprintf(c, "PUT /nar/%s.nar HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", sum(nar), len(nar), nar[:len(nar)/2]); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	if a := b.do("HEAD", "/nar/"+sum(nar)+".nar", nil); a.status != 404 {
		t.Errorf("HEAD: %d", a.status)
	}
	b.mustPut(nar, infoOf(nar, "x"))
}

// TestManyClients has 64 clients who put and get at once, some the same paths.
func TestManyClients(t *testing.T) {
	b := serve(t, guarded(t), narbridge.Options{MaxUploads: 8})
	var group sync.WaitGroup
	for i := range 64 {
		group.Go(func() {
			for j := range 3 {
				nar := fileNAR(t, strings.Repeat(fmt.Sprint("content ", i%40, j), 1000), false)
				n := infoOf(nar, fmt.Sprint("path-", i%40, "-", j))
				b.mustPut(nar, n)
				if a := b.get(b.narURL(n)); a.body != nar {
					t.Errorf("client %d: %d, %d bytes", i, a.status, len(a.body))
				}
			}
		})
	}
	group.Wait()
	paths := 0
	for _, err := range b.PathInfos.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		paths++
	}
	if paths != 120 {
		t.Errorf("%d paths, want 120", paths)
	}
}

// failing is a blob service that cannot store or lacks what is there.
type failing struct{ castore.BlobService }

func (failing) Create(context.Context) (castore.BlobWriter, error) {
	return nil, fmt.Errorf("create: the disk is full: /secret/path")
}

func (failing) Open(_ context.Context, d castore.Digest) (castore.Blob, error) {
	return nil, fmt.Errorf("open blob %s: %w", d, castore.ErrNotFound)
}

// TestStoreFails holds that the store's errors are not the client's, and that an
// answer that cannot be ended is broken off.
func TestStoreFails(t *testing.T) {
	good := newBridge(t, narbridge.Options{})
	nar := treeNAR(t, 1<<20)
	n := infoOf(nar, "x")
	good.mustPut(nar, n)
	store := good.Store
	store.Blobs = failing{store.Blobs}
	b := serve(t, store, narbridge.Options{})
	a := b.put("/nar/"+sum(nar)+".nar", nar)
	a.want(t, "put", 500, "the store failed")
	if strings.Contains(a.body, "secret") {
		t.Errorf("the answer says too much: %s", a.body)
	}
	for _, headers := range [][]string{nil, {"Accept-Encoding", "zstd"}, {"Range", "bytes=100-"}} {
		r, err := http.NewRequest("GET", b.url+b.narURL(n), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			continue // broken off before the header was sent
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil {
			t.Errorf("%q: %d and %d bytes without error", headers, resp.StatusCode, len(got))
		}
	}
}

// TestShutdown holds that a request under way ends and a new one is not taken.
func TestShutdown(t *testing.T) {
	good := newBridge(t, narbridge.Options{})
	s := narbridge.New(good.Store, narbridge.Options{Uploads: good.table})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	nar := fileNAR(t, "x", false)
	under := &bridge{good.Store, "http://" + l.Addr().String(), good.table, t}
	c := dial(t, under)
	if _, err := fmt.Fprintf(c, "PUT /nar/%s.nar HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", sum(nar), len(nar), nar[:50]); err != nil {
		t.Fatal(err)
	}
	under.inFlight(2)
	down := make(chan struct{})
	go func() {
		s.Shutdown(t.Context())
		close(down)
	}()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := io.WriteString(c, nar[50:]); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	_ = c.Close()
	<-down
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("connections are still taken")
	}
}
