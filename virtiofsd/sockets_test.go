package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/control"
	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// startControlled runs a daemon in this process, and returns its control socket when
// that answers.
func startControlled(t *testing.T, store string, args ...string) (dir, socket string, end func() (int, string)) {
	t.Helper()
	dir = shortDir(t)
	socket = filepath.Join(dir, "control")
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	code := make(chan int, 1)
	var stderr bytes.Buffer
	args = append([]string{"daemon", "-l", filepath.Join(dir, "grpc"), "--store", store, "--control", socket}, args...)
	go func() {
		code <- cli.Run(ctx, newCommand(), args, cli.Streams{In: strings.NewReader(""), Out: io.Discard, Err: &stderr})
	}()
	await(t, "control socket", func() bool { c, err := control.Dial(socket); return err == nil && c.Close() == nil })
	return dir, socket, func() (int, string) {
		t.Helper()
		cancel()
		select {
		case c := <-code:
			return c, stderr.String()
		case <-time.After(30 * time.Second):
			t.Fatal("the daemon does not end")
			return 0, ""
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestSockets makes, uses, lists and removes sockets of one daemon.
func TestSockets(t *testing.T) {
	store, first := imported(t, "first")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("second"), 0o644); err != nil {
		t.Fatal(err)
	}
	second := strings.TrimSpace(must(t, "import", "--store", store, file))
	dir, socket, end := startControlled(t, store)
	on := func(args ...string) []string { return append([]string{"socket", "--control", socket}, args...) }
	if got := must(t, on("create", "--socket-path", dir+"/all")...); got != "1\n" {
		t.Errorf("the socket has the name %q", got)
	}
	must(t, on("create", "--socket-path", dir+"/one", "--name", "one", "--closure", first, "--max-connections", "1")...)
	_, all := guest(t, dir+"/all")
	front, one := guest(t, dir+"/one")
	for _, tt := range []struct {
		guest *vt.Fuse
		path  string
		want  string
	}{{all, first, "first"}, {all, second, "second"}, {one, first, "first"}} {
		if got := readFile(t, tt.guest, tt.path); got != tt.want {
			t.Errorf("%s: read %q", tt.path, got)
		}
	}
	entry, err := one.Call(vt.FuseLookup, 1, append([]byte(filepath.Base(second)), 0), 128)
	if err != nil || binary.NativeEndian.Uint64(entry) != 0 {
		t.Errorf("a guest sees what is in no closure of its own: %v", err)
	}
	list := mustJSON[[]control.Socket](t, on("list", "--json")...)
	if len(list) != 2 || list[0].Name != "1" || list[1].Name != "one" || list[1].Connections != 1 || list[1].ReadBytes != 5 || list[1].Requests == 0 || list[1].Path != dir+"/one" {
		t.Errorf("list: %+v", list)
	}
	if got := must(t, on("list")...); !strings.Contains(got, first) || !strings.Contains(got, "(whole store)") {
		t.Errorf("list: %s", got)
	}
	// One more VMM than may connect.
	if f, err := vt.Connect(dir+"/one", 8<<20); err == nil {
		if _, err := f.Negotiate(vt.FeatureProtocol); err == nil {
			t.Error("one more VMM than may connect is served")
		}
		f.Close()
	}
	refused(t, 1, []string{`"one" already`}, on("create", "--socket-path", dir+"/x", "--name", "one")...)
	refused(t, 1, []string{"00000000000000000000000000000000-none", "import"}, on("create", "--socket-path", dir+"/x", "--closure", "/nix/store/00000000000000000000000000000000-none")...)
	refused(t, 1, []string{"another process listens"}, on("create", "--socket-path", dir+"/one")...)
	refused(t, 1, []string{"no socket", "socket list"}, on("remove", "none")...)
	refused(t, 2, []string{"--socket-path"}, on("create")...)
	refused(t, 1, []string{"virtiofsd daemon", "--control"}, "socket", "--control", dir+"/none", "list")
	if exists(dir + "/x") {
		t.Error("a socket that was refused is left")
	}
	must(t, on("remove", dir+"/one")...)
	if exists(dir + "/one") {
		t.Error("a socket that was removed is left")
	}
	await(t, "end of the connection", func() bool {
		_ = front.Conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		_, err := front.Conn.Read(make([]byte, 1))
		return err == io.EOF || err != nil && !os.IsTimeout(err)
	})
	if got := readFile(t, all, first); got != "first" {
		t.Errorf("another socket: read %q", got)
	}
	if code, stderr := end(); code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	}
	for _, name := range []string{"all", "control"} {
		if exists(filepath.Join(dir, name)) {
			t.Errorf("%s is left", name)
		}
	}
}

// TestManyGuests serves 32 VMs at once.
func TestManyGuests(t *testing.T) {
	store, path := imported(t, "contents")
	dir, socket, end := startControlled(t, store)
	must(t, "socket", "--control", socket, "create", "--socket-path", dir+"/s")
	var guests []*vt.Fuse
	for range 32 {
		_, g := guest(t, dir+"/s")
		guests = append(guests, g)
	}
	var wg sync.WaitGroup
	for _, g := range guests {
		wg.Go(func() {
			for range 50 {
				entry, err := g.Call(vt.FuseLookup, 1, append([]byte(filepath.Base(path)), 0), 128)
				if err != nil {
					t.Error(err)
					return
				}
				read := make([]byte, 40)
				binary.NativeEndian.PutUint32(read[16:], 4096)
				if b, err := g.Call(vt.FuseRead, binary.NativeEndian.Uint64(entry), read, 4096); err != nil || string(b) != "contents" {
					t.Errorf("read %q, %v", b, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if code, stderr := end(); code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// TestUseDaemon holds that serve lets a daemon of the same store serve in its
// place, that its VM is served though the daemon dies, and that another store's
// daemon is left alone.
func TestUseDaemon(t *testing.T) {
	store, path := imported(t, "contents")
	dir, socket, end := startControlled(t, store)
	list := func() int {
		t.Helper()
		return len(mustJSON[[]control.Socket](t, "socket", "--control", socket, "list", "--json"))
	}
	r := startServe(t, "--store", store, "--socket-path", dir+"/vm", "--use-daemon", socket, "--require", path)
	_, g := guest(t, dir+"/vm")
	if got := readFile(t, g, path); got != "contents" {
		t.Errorf("read %q", got)
	}
	if n := list(); n != 1 {
		t.Errorf("the daemon has %d sockets", n)
	}
	other, otherPath := imported(t, "other")
	r2 := startServe(t, "--store", other, "--socket-path", dir+"/other", "--use-daemon", socket)
	_, g = guest(t, dir+"/other")
	if got := readFile(t, g, otherPath); got != "other" {
		t.Errorf("read %q", got)
	}
	if n := list(); n != 1 {
		t.Errorf("the daemon has %d sockets", n)
	}
	if code, stderr := end(); code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	}
	_, g = guest(t, dir+"/vm") // as a VMM that connects again
	if got := readFile(t, g, path); got != "contents" {
		t.Errorf("without the daemon: read %q", got)
	}
	r2.cancel()
	if code := r2.end(); code != 0 {
		t.Errorf("exit %d: %s", code, &r2.stderr)
	}
	r.cancel()
	if code := r.end(); code != 0 {
		t.Errorf("exit %d: %s", code, &r.stderr)
	}
}

// TestMetrics reads what a daemon counts.
func TestMetrics(t *testing.T) {
	store, path := imported(t, "contents")
	dir := shortDir(t)
	r := startServe(t, "--store", store, "--socket-path", dir+"/s", "--metrics", dir+"/m", "--xattr")
	_, g := guest(t, dir+"/s")
	readFile(t, g, path)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", dir+"/m")
	}}}
	resp, err := client.Get("http://metrics/metrics")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	client.CloseIdleConnections()
	for _, want := range []string{
		fmt.Sprintf("virtiofsd_fuse_requests_total{opcode=%q,socket=%q} 1\n", "LOOKUP", dir+"/s"),
		fmt.Sprintf("virtiofsd_fuse_request_duration_seconds_count{opcode=%q,socket=%q} 1\n", "READ", dir+"/s"),
		fmt.Sprintf("virtiofsd_read_bytes_total{socket=%q} 8\n", dir+"/s"),
		fmt.Sprintf("virtiofsd_connections{socket=%q} 1\n", dir+"/s"),
		"virtiofsd_cache_requests_total{cache=\"blob\",result=\"miss\"} 1\n",
		"go_goroutines",
	} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("no %q in the metrics: %s", want, b)
		}
	}
	r.cancel()
	if code := r.end(); code != 0 {
		t.Errorf("exit %d: %s", code, &r.stderr)
	}
	if exists(dir + "/m") {
		t.Error("the socket of the metrics is left")
	}
}

// FuzzControl sends what a client may send.
func FuzzControl(f *testing.F) {
	for _, r := range []control.Request{{Op: control.OpList}, {Op: control.OpCreate, Socket: &control.Socket{Name: "x"}}, {Op: control.OpRemove, Socket: &control.Socket{Name: "y"}}, {Op: "z"}} {
		b, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(b, '\n'))
	}
	f.Add([]byte("{\n"))
	dir, err := os.MkdirTemp("", "vs")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		f.Fatal(err)
	}
	table := newSocketTable(context.Background(), nil, nil, "", slog.New(slog.DiscardHandler))
	go func() { _ = table.serve(l) }()
	f.Cleanup(func() { _ = l.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := control.Dial(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i := slices.Index(b, '\n'); i < 0 || len(b) == 0 {
			b = append(b, '\n')
		}
		if _, err := c.Write(b); err != nil {
			return
		}
		answer, err := io.ReadAll(c)
		if err == nil && !json.Valid(answer) {
			t.Errorf("answer %q", answer)
		}
	})
}
