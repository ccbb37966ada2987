package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storeboot/internal/bootproto"
	"storeboot/internal/cli"
	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// running is a serve command in this process.
type running struct {
	t      *testing.T
	cancel context.CancelFunc
	code   chan int
	stderr bytes.Buffer // to be read after the end
}

func startServe(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, cancel: cancel, code: make(chan int, 1)}
	go func() {
		r.code <- cli.Run(ctx, newCommand(), append([]string{"serve"}, args...), cli.Streams{In: strings.NewReader(""), Out: new(bytes.Buffer), Err: &r.stderr})
	}()
	t.Cleanup(cancel)
	return r
}

// end waits for the end and returns the exit code.
func (r *running) end() int {
	r.t.Helper()
	select {
	case code := <-r.code:
		return code
	case <-time.After(30 * time.Second):
		r.t.Fatal("serve does not end")
		return 0
	}
}

// shortDir is a directory whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// imported is a store with one file in it, whose contents are text.
func imported(t *testing.T, text string) (store, path string) {
	t.Helper()
	store = filepath.Join(t.TempDir(), "store")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	if code := cli.Run(t.Context(), newCommand(), []string{"import", "--store", store, file}, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errOut}); code != 0 {
		t.Fatalf("import: exit %d: %s", code, &errOut)
	}
	return store, strings.TrimSpace(out.String())
}

// guest connects as a VMM whose guest mounts the file system.
func guest(t *testing.T, socket string) (*vt.FrontEnd, *vt.Fuse) {
	t.Helper()
	var f *vt.FrontEnd
	var err error
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if f, err = vt.Connect(socket, 8<<20); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	t.Cleanup(f.Close)
	const features = vt.FeatureIndirect | vt.FeatureEventIdx | vt.FeatureProtocol | vt.FeatureVersion1
	queues, err := f.Negotiate(features)
	if err != nil || queues != 1+requestQueues {
		t.Fatalf("%d queues: %v", queues, err)
	}
	if err := f.ShareMemory(); err != nil {
		t.Fatal(err)
	}
	q, err := f.NewQueue(1, 1024, features)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	fuse := vt.NewFuse(q)
	if _, err := fuse.Init(); err != nil {
		t.Fatal(err)
	}
	return f, fuse
}

// readFile reads a store path that is a file.
func readFile(t *testing.T, f *vt.Fuse, path string) string {
	t.Helper()
	entry, err := f.Call(vt.FuseLookup, 1, append([]byte(filepath.Base(path)), 0), 128)
	if err != nil {
		t.Fatal(err)
	}
	node := binary.LittleEndian.Uint64(entry)
	read := make([]byte, 40)
	binary.LittleEndian.PutUint32(read[16:], 4096)
	b, err := f.Call(vt.FuseRead, node, read, 4096)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestServe serves several VMs at once and one after another, one of which is
// killed, and ends on a signal with the socket gone.
func TestServe(t *testing.T) {
	store, path := imported(t, "contents")
	socket := filepath.Join(shortDir(t), "s")
	r := startServe(t, "--store", store, "--socket-path", socket)
	var fronts []*vt.FrontEnd
	var guests []*vt.Fuse
	for range 3 {
		f, g := guest(t, socket)
		fronts, guests = append(fronts, f), append(guests, g)
	}
	fronts[1].Close() // as if killed
	for _, g := range []*vt.Fuse{guests[0], guests[2]} {
		if got := readFile(t, g, path); got != "contents" {
			t.Errorf("read %q", got)
		}
	}
	_, g := guest(t, socket)
	if got := readFile(t, g, path); got != "contents" {
		t.Errorf("after one has gone: read %q", got)
	}
	r.cancel()
	if code := r.end(); code != 0 {
		t.Errorf("exit %d: %s", code, &r.stderr)
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestServeEvents drives serve as the launcher does: socket and events by
// descriptor, one VM.
func TestServeEvents(t *testing.T) {
	store, path := imported(t, "contents")
	socket := filepath.Join(shortDir(t), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(file.Fd())) // serve takes it over
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	events, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	eventFD, err := unix.Dup(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	r := startServe(t, "--store", store, "--fd", fmt.Sprint(fd), "--event-fd", fmt.Sprint(eventFD), "--require", path, "--once")
	lines := bufio.NewScanner(events)
	expect := func(kind bootproto.EventKind) *bootproto.Event {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("no event %s: %v", kind, lines.Err())
		}
		e, err := bootproto.ParseEvent(lines.Bytes())
		if err != nil || e.Kind != kind || e.UnixMicros == 0 {
			t.Fatalf("event %s, want %s: %v", lines.Text(), kind, err)
		}
		return e
	}
	expect(bootproto.EventReady)
	f, g := guest(t, socket)
	expect(bootproto.EventConnected)
	expect(bootproto.EventMounted)
	const report = `{"version":1,"outcome":"signaled","signal":9}`
	ioctl := make([]byte, 32, 100)
	binary.LittleEndian.PutUint32(ioctl[12:], bootproto.IoctlCommand(len(report)))
	binary.LittleEndian.PutUint32(ioctl[24:], uint32(len(report)))
	if _, err := g.Call(vt.FuseIoctl, 1, append(ioctl, report...), 16); err != nil {
		t.Fatal(err)
	}
	if e := expect(bootproto.EventReport); e.Report == nil || e.Report.ExitStatus() != 137 || e.Connection != 1 {
		t.Errorf("report %+v", e)
	}
	f.Close()
	gone := expect(bootproto.EventDisconnected)
	counts := map[string]uint64{}
	for _, q := range gone.Requests {
		counts[q.Opcode] = q.Count
	}
	if counts["INIT"] != 1 || counts["IOCTL"] != 1 {
		t.Errorf("the VM's requests: %v, want one INIT and one IOCTL", counts)
	}
	if code := r.end(); code != 0 {
		t.Errorf("exit %d: %s", code, &r.stderr)
	}
	if lines.Scan() {
		t.Errorf("one more event: %s", lines.Text())
	}
}

func TestServeRefuses(t *testing.T) {
	store, path := imported(t, "x")
	const none = "/nix/store/00000000000000000000000000000000-none"
	socket := filepath.Join(shortDir(t), "s")
	tests := []struct {
		args []string
		code int
		err  string
	}{
		{nil, 2, "--socket-path"},
		{[]string{"--socket-path", socket, "--fd", "3"}, 2, "--socket-path"},
		{[]string{"--socket-path", socket, "--log-level", "loud"}, 2, "loud"},
		{[]string{"--socket-path", socket, "--require", none}, 1, none + " is not in the store: import it with 'virtiofsd import'"},
		{[]string{"--socket-path", socket, "--require", path + "x"}, 1, path + "x is not in the store"},
		{[]string{"--socket-path", socket, "--require", "/usr"}, 2, "/usr"},
		{[]string{"--socket-path", socket, "--event-fd", "999"}, 1, "--event-fd 999"},
		{[]string{"--fd", "999"}, 1, "999"},
	}
	for _, tt := range tests {
		r := startServe(t, append([]string{"--store", store}, tt.args...)...)
		if code := r.end(); code != tt.code || !strings.Contains(r.stderr.String(), tt.err) {
			t.Errorf("%q: exit %d, want %d with %q: %s", tt.args, code, tt.code, tt.err, &r.stderr)
		}
		if _, err := os.Lstat(socket); !os.IsNotExist(err) {
			t.Errorf("%q: the socket is left: %v", tt.args, err)
		}
	}
}

func TestPrintCapabilities(t *testing.T) {
	var out, errOut bytes.Buffer
	code := cli.Run(t.Context(), newCommand(), []string{"serve", "--print-capabilities"}, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errOut})
	if code != 0 || !strings.Contains(out.String(), `"type": "fs"`) {
		t.Errorf("exit %d: %s%s", code, &out, &errOut)
	}
}
