package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nix-community/go-nix/pkg/nixbase32"

	"storeboot/internal/cli"
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/castorenar"
	"storeboot/virtiofsd/narinfo"
)

// bridgeClient makes requests to a bridge on a unix socket.
type bridgeClient struct {
	t      *testing.T
	socket string
	cmd    *exec.Cmd
}

// start runs a bridge, or what else args are, until it is killed.
func (b *bridgeClient) start(args ...string) {
	b.t.Helper()
	cmd := process(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.cmd = cmd
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill() // unless it has ended
		_ = cmd.Wait()
		if b.t.Failed() {
			b.t.Logf("bridge: %s", stderr.String())
		}
	})
	for range 3000 {
		if c, err := net.Dial("unix", b.socket); err == nil {
			_ = c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatal("the bridge does not listen")
}

func (b *bridgeClient) kill() {
	b.t.Helper()
	if err := b.cmd.Process.Kill(); err != nil {
		b.t.Fatal(err)
	}
	_ = b.cmd.Wait()
}

func (b *bridgeClient) do(method, path, body string) (int, string) {
	b.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", b.socket)
	}}}
	r, err := http.NewRequest(method, "http://store"+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// bridgeUpload is a NAR and its narinfo.
type bridgeUpload struct{ nar, narPath, info, infoPath string }

// newBridgeUpload makes a tree that follows from i, with a path that does not
// follow from it and refers to that of before.
func newBridgeUpload(t *testing.T, i int) bridgeUpload {
	t.Helper()
	blobs, dirs := castore.NewMemoryBlobs(), castore.NewMemoryDirectories()
	content := castoretest.Pattern(100_000, uint64(i))
	d := castoretest.NewDirectory(t, castore.Entry{Name: "f", Node: castore.Node{Kind: castore.KindFile, Digest: castoretest.PutBlob(t, blobs, content), Size: uint64(len(content))}})
	if _, err := castoretest.PutDirectories(dirs, d); err != nil {
		t.Fatal(err)
	}
	var nar bytes.Buffer
	if err := castorenar.Write(t.Context(), &nar, d.Node(), blobs, dirs); err != nil {
		t.Fatal(err)
	}
	path := func(i int) storepath.StorePath {
		h := sha256.Sum256([]byte(fmt.Sprint(i)))
		return storepath.StorePath{Hash: storepath.Hash(h[:20]), Name: fmt.Sprint("upload-", i)}
	}
	sum := sha256.Sum256(nar.Bytes())
	name := "nar/" + nixbase32.EncodeToString(sum[:]) + ".nar"
	n := narinfo.NarInfo{StorePath: path(i), URL: name, Compression: "none", FileHash: &sum, FileSize: uint64(nar.Len()), NarHash: sum, NarSize: uint64(nar.Len())}
	if i > 0 {
		n.References = []storepath.StorePath{path(i - 1)}
	}
	return bridgeUpload{nar.String(), "/" + name, string(n.Marshal()), "/" + n.StorePath.Hash.String() + ".narinfo"}
}

// TestNarBridgeKilled kills the bridge with SIGKILL after each request of the
// upload of a closure, and runs a collection before it goes on: what was
// acknowledged holds, and the closure is whole at the end.
func TestNarBridgeKilled(t *testing.T) {
	store := newStore(t)
	b := &bridgeClient{t: t, socket: filepath.Join(shortDir(t), "s")}
	args := []string{"nar-bridge", "-l", b.socket}
	var all []bridgeUpload
	for i := range 4 {
		u := newBridgeUpload(t, i)
		all = append(all, u)
		for _, step := range []struct {
			method, path, body string
			status             int
		}{
			{"HEAD", u.narPath, "", 404},
			{"PUT", u.narPath, u.nar, 200},
			{"HEAD", u.narPath, "", 200},
			{"GET", u.infoPath, "", 404},
			{"PUT", u.infoPath, u.info, 200},
			{"GET", u.infoPath, "", 200},
		} {
			b.start(args...)
			if status, body := b.do(step.method, step.path, step.body); status != step.status {
				t.Fatalf("%s %s: %d %s, want %d", step.method, step.path, status, body, step.status)
			}
			b.kill()
			if code, _, stderr := virtiofsd("gc", "--all", "--store", store); code != 0 { // with the usual grace
				t.Fatalf("gc: %s", stderr)
			}
		}
	}
	holds(t, store, nil)
	b.start(args...)
	for _, u := range all {
		_, text := b.do("GET", u.infoPath, "")
		n, err := narinfo.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, nar := b.do("GET", "/"+n.URL, ""); nar != u.nar {
			t.Errorf("%s: another NAR", n.StorePath)
		}
	}
	// Without grace a collection takes what waits for its narinfo: then the client
	// is told to put it again.
	last := newBridgeUpload(t, 4)
	if status, body := b.do("PUT", last.narPath, last.nar); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if code, _, stderr := virtiofsd("gc", "--all", "--grace", "0", "--store", store); code != 0 {
		t.Fatalf("gc: %s", stderr)
	}
	if status, _ := b.do("HEAD", last.narPath, ""); status != 404 {
		t.Errorf("HEAD after a collection: %d", status)
	}
	if status, body := b.do("PUT", last.infoPath, last.info); status != 400 || !strings.Contains(body, "put it") {
		t.Errorf("after a collection: %d %s", status, body)
	}
	holds(t, store, nil)
}

// TestDaemonNarBridge holds that the daemon serves both protocols, and ends with
// both.
func TestDaemonNarBridge(t *testing.T) {
	newStore(t)
	dir := shortDir(t)
	b := &bridgeClient{t: t, socket: filepath.Join(dir, "http")}
	b.start("daemon", "-l", filepath.Join(dir, "grpc"), "--nar-bridge", b.socket)
	u := newBridgeUpload(t, 0)
	for _, x := range []struct{ path, body string }{{u.narPath, u.nar}, {u.infoPath, u.info}} {
		if status, body := b.do("PUT", x.path, x.body); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	n, err := narinfo.Parse([]byte(u.info))
	if err != nil {
		t.Fatal(err)
	}
	c := dialDaemon(t, filepath.Join(dir, "grpc"))
	if _, err := c.PathInfos().Get(t.Context(), n.StorePath.Hash); err != nil {
		t.Error(err)
	}
	if err := b.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Wait(); err != nil {
		t.Errorf("after SIGINT: %v", err)
	}
}

func TestNarBridgeUsage(t *testing.T) {
	store := newStore(t)
	for _, tt := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"-l", "nowhere"}, cli.ExitFailure, "nowhere"},
		{[]string{"--compress", "often"}, cli.ExitUsage, "auto, always or never"},
		{[]string{"--require-signature"}, cli.ExitUsage, "--trusted-public-keys"},
		{[]string{"--trusted-public-keys", "x"}, cli.ExitUsage, "--trusted-public-keys"},
		{[]string{"--signing-key", store + "/none"}, cli.ExitFailure, "none"},
		{[]string{"--auth-token-file", store + "/none"}, cli.ExitFailure, "none"},
		{[]string{"--tls-cert", "x"}, cli.ExitUsage, "go together"},
		{[]string{"--max-nar-size", "0"}, cli.ExitUsage, "--max-nar-size"},
		{[]string{"--idle", "0s"}, cli.ExitUsage, "--idle"},
		{[]string{"argument"}, cli.ExitUsage, "argument"},
	} {
		refused(t, tt.code, []string{tt.text}, append([]string{"nar-bridge", "-l", filepath.Join(shortDir(t), "s")}, tt.args...)...)
	}
	t.Setenv("PRIORITY", "x")
	refused(t, cli.ExitUsage, []string{"PRIORITY"}, "nar-bridge")
}

// TestUploadsFile holds where the table of uploads of a store is.
func TestUploadsFile(t *testing.T) {
	newStore(t)
	t.Setenv("XDG_DATA_HOME", "/data")
	o := &narBridgeOptions{}
	o.addresses.Dir = "/s"
	for _, tt := range []struct{ blobs, infos, want string }{
		{"", "", "/s/uploads.sqlite"},
		{"file:///x/blobs", "sqlite:///x/y.sqlite", "/x/uploads.sqlite"},
		{"memory:", "memory:", ""},
	} {
		o.addresses.Blobs, o.addresses.PathInfos = tt.blobs, tt.infos
		if got, err := uploadsFile(o.addresses); err != nil || got != tt.want {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
	}
	o.addresses.Blobs, o.addresses.PathInfos = "grpc+unix:///a", "grpc+unix:///a"
	one, err := uploadsFile(o.addresses)
	if err != nil {
		t.Fatal(err)
	}
	o.addresses.Blobs = "grpc+unix:///b"
	if two, err := uploadsFile(o.addresses); err != nil || one == two || filepath.Dir(one) != filepath.Dir(two) {
		t.Errorf("%q and %q, %v", one, two, err)
	}
}

// TestDropInNarBridge runs nar-bridge under its own name, with the flags of the
// original.
func TestDropInNarBridge(t *testing.T) {
	clearDropInEnv(t)
	for _, address := range serviceAddresses {
		t.Setenv(address, "memory://")
	}
	for _, name := range []string{narBridge, narBridgeHTTP} {
		if got := commandOf("/usr/bin/" + name).Use; got != name {
			t.Errorf("called as %s it is %s", name, got)
		}
	}
	b := &bridgeClient{t: t, socket: filepath.Join(shortDir(t), "s")}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() {
		var e bytes.Buffer
		args := []string{"--otlp=false", "--priority", "7", "--root-nodes-cache-capacity", "10", "-l", b.socket}
		ended <- cli.Run(ctx, newDropInNarBridgeCommand(narBridge), args, cli.Streams{In: strings.NewReader(""), Out: &e, Err: &e})
	}()
	for range 3000 {
		if c, err := net.Dial("unix", b.socket); err == nil {
			_ = c.Close()
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if _, body := b.do("GET", "/nix-cache-info", ""); !strings.Contains(body, "Priority: 7\n") {
		t.Errorf("%q", body)
	}
	u := newBridgeUpload(t, 3) // whose reference is not there
	for _, x := range []struct{ path, body string }{{u.narPath, u.nar}, {u.infoPath, u.info}} {
		if status, body := b.do("PUT", x.path, x.body); status != 200 {
			t.Errorf("%d %s", status, body)
		}
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit %d", code)
	}
	c := newDropInNarBridgeCommand(narBridge)
	if f := c.Flags().Lookup("listen-address"); f.Value.String() != ":9000" || f.DefValue != ":9000" {
		t.Errorf("listens on %s by default", f.Value)
	}
}
