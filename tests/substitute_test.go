package tests

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// runNix runs one of Nix's programs on the machine's store, offline.
func runNix(t testing.TB, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(),
		"NIX_CONFIG=build-users-group =\nsandbox = false\nsubstitute = false\nexperimental-features = nix-command")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// builtHello is the closure of hello, which no store of ours has.
func builtHello(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"nix", "nix-build", "patchelf", "hello"} {
		_, err := exec.LookPath(tool)
		need(t, err == nil, tool+" (apt-get install nix-bin patchelf hello)")
	}
	hello, err := helloClosure()
	if err != nil {
		t.Fatal(err)
	}
	return hello
}

// upstream is a binary cache that Nix has made, on a server that counts.
type upstream struct {
	*httptest.Server
	dir, key string
	requests atomic.Int64
	bytes    atomic.Int64
	stall    atomic.Pointer[string] // files whose names end so never come
}

// newUpstream makes a cache with the closure of path, signed.
func newUpstream(t testing.TB, path string) *upstream {
	t.Helper()
	dir := t.TempDir()
	u := &upstream{dir: filepath.Join(dir, "cache")}
	secret, public := filepath.Join(dir, "secret"), filepath.Join(dir, "public")
	runNix(t, "nix-store", "--generate-binary-cache-key", "cache.example-1", secret, public)
	runNix(t, "nix", "copy", "--to", "file://"+u.dir+"?secret-key="+secret, path)
	key, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	u.key = strings.TrimSpace(string(key))
	files := http.FileServer(http.Dir(u.dir))
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.requests.Add(1)
		if s := u.stall.Load(); s != nil && strings.HasSuffix(r.URL.Path, *s) {
			<-r.Context().Done()
			return
		}
		files.ServeHTTP(&countingWriter{w, &u.bytes}, r)
	}))
	t.Cleanup(u.Close)
	return u
}

type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

// TestRunOnDemand boots a closure that exists only in a binary cache, and again
// when that is gone.
func TestRunOnDemand(t *testing.T) {
	needVM(t)
	hello := builtHello(t)
	u := newUpstream(t, hello)
	w := newWorld(t)
	args := []string{"run", "--substituter", u.URL, "--trusted-public-keys", u.key, hello + "/bin/hello"}

	stranger := "cache.example-1:" + strings.Repeat("A", 43) + "="
	r := w.run(nil, "launcher", "run", "--substituter", u.URL, "--trusted-public-keys", stranger, hello+"/bin/hello")
	if r.code != 1 || !strings.Contains(r.stderr, "no signature by a trusted key") {
		t.Errorf("with another key: %s", r)
	}
	if list := w.must("virtiofsd", "list"); list != "" {
		t.Fatalf("in the store are paths that nobody trusted has signed: %s", list)
	}
	u.requests.Store(0)
	u.bytes.Store(0)

	r = w.run(nil, "launcher", args...)
	if r.code != 0 || r.stdout != "Hello, world!\n" || r.stderr != "" {
		t.Fatalf("with the cache: %s", r)
	}
	if u.requests.Load() == 0 {
		t.Error("the cache was not asked")
	}
	t.Logf("the first boot took %d requests and %d bytes", u.requests.Load(), u.bytes.Load())
	w.must("virtiofsd", "verify")

	u.requests.Store(0)
	if r = w.run(nil, "launcher", args...); r.code != 0 || r.stdout != "Hello, world!\n" {
		t.Fatalf("again: %s", r)
	}
	if n := u.requests.Load(); n != 0 {
		t.Errorf("the second boot asked the cache %d times, want never", n)
	}
	u.Close()
	if r = w.run(nil, "launcher", args...); r.code != 0 || r.stdout != "Hello, world!\n" {
		t.Fatalf("without the cache: %s", r)
	}
}

// TestRunOnDemandWithoutReference boots a program whose library the cache has
// lost: the guest's error comes back.
func TestRunOnDemandWithoutReference(t *testing.T) {
	needVM(t)
	hello := builtHello(t)
	u := newUpstream(t, hello)
	own := filepath.Base(hello)[:32] + ".narinfo"
	infos, err := filepath.Glob(filepath.Join(u.dir, "*.narinfo"))
	if err != nil || len(infos) != 2 {
		t.Fatalf("narinfos %q, %v", infos, err)
	}
	for _, info := range infos {
		if filepath.Base(info) != own {
			if err := os.Remove(info); err != nil {
				t.Fatal(err)
			}
		}
	}
	w := newWorld(t)
	r := w.run(nil, "launcher", "run", "--substituter", u.URL, "--trusted-public-keys", u.key, hello+"/bin/hello")
	if r.code == 0 || r.stdout != "" {
		t.Errorf("without the library: %s", r)
	}
}

// TestRunOnDemandStalls boots a program whose library never comes from the cache:
// the guest is told EIO in time, and nothing waits for the cache's own limits.
func TestRunOnDemandStalls(t *testing.T) {
	needVM(t)
	hello := builtHello(t)
	u := newUpstream(t, hello)
	infos, err := filepath.Glob(filepath.Join(u.dir, "*.narinfo"))
	if err != nil || len(infos) != 2 {
		t.Fatalf("narinfos %q, %v", infos, err)
	}
	for _, info := range infos {
		text, err := os.ReadFile(info)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(info) == filepath.Base(hello)[:32]+".narinfo" {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if nar, ok := strings.CutPrefix(strings.TrimSpace(line), "URL: "); ok {
				u.stall.Store(&nar)
			}
		}
	}
	w := newWorld(t)
	r := w.run(nil, "launcher", "run", "--fetch-timeout", "2s", "--substituter", u.URL+"?timeout=1h&stall-timeout=1h", "--trusted-public-keys", u.key, hello+"/bin/hello")
	if r.code == 0 || r.stdout != "" || !strings.Contains(strings.ToLower(r.stderr), "input/output error") {
		t.Errorf("a library that never comes: %s", r)
	}
	if list := w.must("virtiofsd", "list"); strings.TrimSpace(list) != hello {
		t.Errorf("the store holds %s", list)
	}
}

// TestRunUploaded boots a closure that nix copy has put into the store through
// the HTTP bridge.
func TestRunUploaded(t *testing.T) {
	needVM(t)
	hello := builtHello(t)
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	bridge := w.command(context.Background(), nil, "virtiofsd", "nar-bridge", "-l", address)
	var stderr strings.Builder
	bridge.Stderr = &stderr
	if err := bridge.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			_ = bridge.Process.Kill()
			_ = bridge.Wait()
		}
	}()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the bridge does not listen: %v", err)
		}
	}
	runNix(t, "nix", "copy", "--to", "http://"+address+"?compression=none", hello)
	_ = bridge.Process.Signal(syscall.SIGTERM)
	ended = true
	if err := bridge.Wait(); err != nil {
		t.Errorf("the bridge: %v: %s", err, &stderr)
	}
	if r := w.run(nil, "launcher", "run", hello+"/bin/hello"); r.code != 0 || r.stdout != "Hello, world!\n" {
		t.Fatalf("what nix copy uploaded: %s", r)
	}
}
