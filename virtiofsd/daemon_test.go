package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/grpcstore"
)

// daemonProcess runs virtiofsd daemon in a process of its own until the test
// ends, and returns the connection and the process.
func daemonProcess(t *testing.T, socket string, args ...string) (*grpcstore.Conn, *exec.Cmd) {
	t.Helper()
	cmd := process(append([]string{"daemon", "-l", socket}, args...)...)
	startLogged(t, cmd)
	return dialDaemon(t, socket), cmd
}

// dialDaemon connects as soon as somebody listens.
func dialDaemon(t *testing.T, socket string) *grpcstore.Conn {
	t.Helper()
	for range 3000 {
		c, err := grpcstore.Dial(t.Context(), "grpc+unix://"+socket+"?wait-connect=1", grpcstore.Options{SpoolDir: t.TempDir()})
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the daemon does not listen")
	return nil
}

// TestDaemon stores through a daemon, ends it in the two ways there are, and
// looks for what was stored with another.
func TestDaemon(t *testing.T) {
	newStore(t)
	socket := filepath.Join(shortDir(t), "s")
	c, cmd := daemonProcess(t, socket)
	content := castoretest.Pattern(1<<20, 1)
	blobs := c.Blobs()
	d := castoretest.PutBlob(t, blobs, content)
	if err := blobs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	leaf := castoretest.NewDirectory(t, castore.Entry{Name: "f", Node: castore.Node{Kind: castore.KindFile, Digest: d, Size: 1 << 20}})
	if _, err := castoretest.PutDirectories(c.Directories(), leaf); err != nil {
		t.Fatal(err)
	}
	check := func(c *grpcstore.Conn) {
		t.Helper()
		if got, err := castoretest.GetBlob(c.Blobs(), d); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if _, err := c.Directories().Get(t.Context(), leaf.Digest()); err != nil {
			t.Error(err)
		}
	}
	if err := cmd.Process.Kill(); err != nil { // the socket stays behind
		t.Fatal(err)
	}
	_ = cmd.Wait()
	c, cmd = daemonProcess(t, socket)
	check(c)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestDaemonSystemd hands over a socket as systemd does.
func TestDaemonSystemd(t *testing.T) {
	newStore(t)
	dir := shortDir(t)
	socket, notify := filepath.Join(dir, "s"), filepath.Join(dir, "n")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	n, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	// The descriptors are those of the process LISTEN_PID: sh becomes it.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" daemon -l sd-listen:store`, os.Args[0])
	cmd.Env = append(os.Environ(), asCommand+"=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=store", "NOTIFY_SOCKET="+notify)
	cmd.ExtraFiles = []*os.File{file}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("daemon: %v", err)
		}
	}()
	b := make([]byte, 100)
	_ = n.SetReadDeadline(time.Now().Add(time.Minute)) // instead of no end
	k, err := n.Read(b)
	if err != nil || string(b[:k]) != "READY=1" {
		t.Errorf("systemd is told %q, %v", b[:k], err)
	}
	if has, err := dialDaemon(t, socket).Blobs().Has(t.Context(), castore.Digest{1}); has || err != nil {
		t.Errorf("Has = %v, %v", has, err)
	}
}

// TestDaemonGrace holds that a call under way may end after SIGTERM.
func TestDaemonGrace(t *testing.T) {
	newStore(t)
	socket := filepath.Join(shortDir(t), "s")
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	var stderr bytes.Buffer
	go func() {
		code <- cli.Run(ctx, newCommand(), []string{"daemon", "-l", socket}, cli.Streams{In: strings.NewReader(""), Out: new(bytes.Buffer), Err: &stderr})
	}()
	defer cancel()
	w, err := dialDaemon(t, socket).Blobs().Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(make([]byte, 1<<20)); err != nil { // the call has begun
		t.Fatal(err)
	}
	cancel()
	for { // until nobody can connect any more
		c, err := net.Dial("unix", socket)
		if err != nil {
			break
		}
		_ = c.Close()
	}
	if _, err := w.Close(); err != nil {
		t.Errorf("a call under way: %v", err)
	}
	if got := <-code; got != 0 {
		t.Errorf("exit %d: %s", got, stderr.String())
	}
}

func TestDaemonRefused(t *testing.T) {
	newStore(t)
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		code int
		want []string
		args []string
	}{
		{2, []string{"unexpected"}, []string{"x"}},
		{2, []string{"--tls-cert", "--tls-key"}, []string{"--tls-cert", "x"}},
		{2, []string{"--log-level", "loud"}, []string{"--log-level", "loud"}},
		{2, []string{"--idle"}, []string{"--idle", "0s"}},
		{2, []string{"--max-message"}, []string{"--max-message", "-1"}},
		{2, []string{"--max-message", "2G"}, []string{"--max-message", "3G"}},
		{2, []string{"--max-blob", "K, M, G"}, []string{"--max-blob", "much"}},
		{2, []string{"--upload-memory"}, []string{"--upload-memory", "0"}},
		{2, []string{"--upload-time"}, []string{"--upload-time", "-1s"}},
		{2, []string{"--max-connections"}, []string{"--max-connections", "0"}},
		{1, []string{empty, "certificate"}, []string{"--tls-cert", empty, "--tls-key", empty}},
		{1, []string{empty, "is empty"}, []string{"--token-file", empty}},
		{1, []string{"nosuch"}, []string{"--token-file", filepath.Join(dir, "nosuch")}},
		{1, []string{"store.example:1"}, []string{"-l", "store.example:1"}},
		{1, []string{"sd-listen", "systemd"}, []string{"-l", "sd-listen"}},
		{1, []string{empty, "no socket"}, []string{"-l", empty}},
	} {
		refused(t, tt.code, tt.want, append([]string{"daemon"}, tt.args...)...)
	}
}
