package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"storeboot/virtiofsd/substitute"
)

// nixCommand is the new command line of Nix.
func nixCommand(t testing.TB, root string, args ...string) []string {
	t.Helper()
	return nix(t, root, "nix", append([]string{"--extra-experimental-features", "nix-command"}, args...)...)
}

// signingKey makes a key with Nix's own program.
func signingKey(t testing.TB, name string) (file, public string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key")
	nix(t, t.TempDir(), "nix-store", "--generate-binary-cache-key", name, file, file+".pub")
	b, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return file, strings.TrimSpace(string(b))
}

// binaryCache serves a directory and takes PUT.
func binaryCache(t testing.TB, dir string) (s *httptest.Server, requests *atomic.Int64) {
	t.Helper()
	requests = &atomic.Int64{}
	files := http.FileServer(http.Dir(dir))
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.Method != http.MethodPut {
			files.ServeHTTP(w, r)
			return
		}
		b, err := io.ReadAll(r.Body)
		path := filepath.Join(dir, filepath.FromSlash(r.URL.Path))
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o755)
		}
		if err == nil {
			err = os.WriteFile(path, b, 0o644)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	t.Cleanup(s.Close)
	return s, requests
}

// TestFetchFromNixCache fetches what the real Nix uploaded, in each of its
// compressions.
func TestFetchFromNixCache(t *testing.T) {
	root, drv := instantiate(t)
	closure := nix(t, root, "nix-store", "-qR", drv)
	slices.Sort(closure)
	key, public := signingKey(t, "test-1")
	compressions := []string{"xz", "br", "bzip2", "none", "zstd", "gzip", "lz4", "lzip", "lzma"}
	if testing.Short() {
		compressions = compressions[:2]
	}
	for _, compression := range compressions {
		t.Run(compression, func(t *testing.T) {
			newStore(t)
			dir := t.TempDir()
			nixCommand(t, root, "copy", "--derivation", "--to", "file://"+dir+"?compression="+compression+"&secret-key="+key, drv)
			server, _ := binaryCache(t, dir)
			url := server.URL + "?trusted-public-keys=" + public
			got := strings.Fields(must(t, "fetch", "--from", url, drv))
			if len(got) == 0 || got[len(got)-1] != drv {
				t.Errorf("fetched %q: the path itself is not the last one", got)
			}
			slices.Sort(got)
			if !slices.Equal(got, closure) {
				t.Errorf("fetched %q, the closure is %q", got, closure)
			}
			if stored := fsck(t); len(stored) != len(closure) {
				t.Errorf("the store holds %q", stored)
			}
			for _, p := range closure {
				if hash := nix(t, root, "nix-store", "-q", "--hash", p)[0]; mustJSON[statJSON](t, "stat", "--json", p).Info.NarHash != hash {
					t.Errorf("%s: another NAR hash than %s", p, hash)
				}
			}
			server.Close() // what is there needs no network
			for _, f := range mustJSON[[]fetchJSON](t, "fetch", "--json", "--from", url, drv) {
				if f.Fetched {
					t.Errorf("%s was fetched again", f.Path)
				}
			}
		})
	}
}

func TestFetchRefuses(t *testing.T) {
	newStore(t)
	const path = "/nix/store/ab3li50xq0nl4q5lxdyinb8w8y13my9s-hello"
	empty := "file://" + t.TempDir()
	refused(t, 2, []string{"STOREPATH is missing"}, "fetch")
	refused(t, 2, []string{"--from URL"}, "fetch", path)
	refused(t, 2, []string{"hello"}, "fetch", "--from", empty, "hello")
	refused(t, 1, []string{"trusted-public-keys", "allow-unsigned=1"}, "fetch", "--from", empty, path)
	refused(t, 1, []string{path, "not in the store", "nor in a binary cache"}, "fetch", "--from", empty+"?allow-unsigned=1", path)
	refused(t, 1, []string{"unknown scheme", "ftp"}, "fetch", "--from", "ftp://h", path)
	refused(t, 1, []string{"public key"}, "fetch", "--from", empty, "--trusted-public-keys", "x", path)
	refused(t, 1, []string{"trusted-public-keys"}, "cat", "--substituter", empty, path)
	refused(t, 1, []string{"trusted-public-keys"}, "list", "--path-info-service-addr", "nix+"+empty)
	if out := must(t, "fetch", "--json", "--from", "http://127.0.0.1:1?allow-unsigned=1&retries=0", importSample(t)); !strings.Contains(out, `"fetched": false`) {
		t.Errorf("a path that is there: %s", out)
	}
}

// importSample imports a tree and returns its store path.
func importSample(t testing.TB) string {
	t.Helper()
	return strings.TrimSpace(must(t, "import", sampleTree(t)))
}

// TestNixAddress reads through an address instead of the flag, into a near store
// and without one.
func TestNixAddress(t *testing.T) {
	newStore(t)
	path := importSample(t)
	dir := t.TempDir()
	must(t, "push", "file://"+dir, path)
	want := must(t, "export", path)
	store := newStore(t)
	if got := must(t, "export", "--path-info-service-addr", "nix+file://"+dir+"?allow-unsigned=1", path); got != want {
		t.Errorf("%d bytes of %d", len(got), len(want))
	}
	refused(t, 1, []string{"not in the store"}, "export", path) // nothing keeps the path info
	near := "cache:?near=sqlite://" + store + "/store.sqlite%26far=nix%2Bfile://" + dir + "?allow-unsigned=1"
	near = strings.ReplaceAll(near, "%26", "&")
	if got := must(t, "export", "--path-info-service-addr", near, path); got != want {
		t.Errorf("%d bytes of %d", len(got), len(want))
	}
	if got := must(t, "export", path); got != want {
		t.Errorf("from the near store: %d bytes of %d", len(got), len(want))
	}
	// The same by a composition.
	newStore(t)
	file := filepath.Join(t.TempDir(), "store.toml")
	composition := `
[blobservices.root]
type = "memory"
[directoryservices.root]
type = "memory"
[pathinfoservices.near]
type = "memory"
[pathinfoservices.far]
type = "nix"
base_url = "file://` + dir + `"
allow_unsigned = true
[pathinfoservices.root]
type = "cache"
near = "near"
far = "far"
`
	if err := os.WriteFile(file, []byte(composition), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := must(t, "export", "--composition", file, path); got != want {
		t.Errorf("by a composition: %d bytes of %d", len(got), len(want))
	}
}

// TestServeFetchesAhead has a process that serves fetch a closure from one path
// on, and tell about it.
func TestServeFetchesAhead(t *testing.T) {
	root, drv := instantiate(t)
	dir := pushed(t, root, drv)
	server, _ := binaryCache(t, dir)
	newStore(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := process("serve", "--socket-path", filepath.Join(t.TempDir(), "s"), "--substituter", server.URL+"?allow-unsigned=1", "--require", drv, "--progress-fd", "3")
	cmd.ExtraFiles, cmd.Stderr = []*os.File{w}, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	defer time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() }).Stop() // then the pipe ends
	var p substitute.Progress
	for d := json.NewDecoder(r); p.PathsDone < 3; {
		if err := d.Decode(&p); err != nil {
			t.Fatalf("%v after %+v: %s", err, p, stderr.String())
		}
	}
	if p.PathsKnown != 3 || p.PathsFailed != 0 || p.BytesDone == 0 || p.Requests != 7 {
		t.Errorf("%+v", p)
	}
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	if !strings.Contains(stderr.String(), "pathsDone=3 pathsKnown=3") {
		t.Errorf("the log: %s", stderr.String())
	}
	if paths := fsck(t); len(paths) != 3 {
		t.Errorf("the store holds %q", paths)
	}
}

// TestFetchKilled kills fetches at any time: what is in the store is whole, and
// the last one finishes.
func TestFetchKilled(t *testing.T) {
	root, drv := instantiate(t)
	dir := pushed(t, root, drv)
	newStore(t)
	for n := int64(1); n <= 6; n++ {
		var left atomic.Int64
		left.Store(n)
		reached := make(chan struct{})
		files := http.FileServer(http.Dir(dir))
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch k := left.Add(-1); {
			case k == 0:
				close(reached)
				fallthrough
			case k < 0:
				<-r.Context().Done()
				return
			}
			files.ServeHTTP(w, r)
		}))
		cmd := process("fetch", "--from", s.URL+"?allow-unsigned=1", drv)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case <-reached:
			_ = cmd.Process.Kill()
			<-done
		case <-done:
		}
		s.Close()
		fsck(t)
	}
	must(t, "fetch", "--from", "file://"+dir+"?allow-unsigned=1", drv)
	if paths := fsck(t); len(paths) != 3 {
		t.Errorf("the store holds %q", paths)
	}
}

// TestFetchFromNginx fetches from the server that most caches are behind.
func TestFetchFromNginx(t *testing.T) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("SKIP: nginx is missing (apt-get install nginx-light)")
	}
	root, drv := instantiate(t)
	dir := pushed(t, root, drv)
	conf := t.TempDir()
	socket := filepath.Join(conf, "port")
	port := freePort(t)
	text := "daemon off; master_process off; pid " + conf + "/pid; error_log stderr; events {}\nhttp { access_log off; client_body_temp_path " + conf + "; proxy_temp_path " + conf + "/p; fastcgi_temp_path " + conf + "/f; uwsgi_temp_path " + conf + "/u; scgi_temp_path " + conf + "/s; server { listen 127.0.0.1:" + port + "; root " + dir + "; } }\n"
	if err := os.WriteFile(socket, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(nginx, "-c", socket, "-e", "stderr")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	newStore(t)
	must(t, "fetch", "--from", "http://127.0.0.1:"+port+"?allow-unsigned=1", drv) // repeats until it listens
	if paths := fsck(t); len(paths) != 3 {
		t.Errorf("the store holds %q", paths)
	}
}

// freePort is a port that nobody listens on at the moment.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
