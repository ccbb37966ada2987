package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/objectstore/s3test"
)

// background runs a command on a store of its own until the test ends, and waits
// until somebody listens at address.
func background(t *testing.T, store, network, address string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := process(args...)
	cmd.Env = append(cmd.Env, "STOREBOOT_STORE="+store)
	startLogged(t, cmd)
	await(t, strings.Join(args, " ")+" listens", func() bool {
		c, err := net.Dial(network, address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return cmd
}

// requestLog is a proxy in front of a cache that remembers what was asked for.
type requestLog struct {
	*httptest.Server
	mu  sync.Mutex
	all []string
	// change, unless nil, may change an answer.
	change func(*http.Response) error
}

func newRequestLog(t *testing.T, to string) *requestLog {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	l := &requestLog{}
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.ModifyResponse = func(r *http.Response) error {
		if l.change != nil {
			return l.change(r)
		}
		return nil
	}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.all = append(l.all, r.Method+" "+r.URL.Path)
		l.mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(l.Close)
	return l
}

// count is how many requests were made with part in them; they are forgotten.
func (l *requestLog) count(part string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.all {
		if strings.Contains(r, part) {
			n++
		}
	}
	l.all = nil
	return n
}

// closureOf makes a closure of Nix's with a file of n bytes in its source, in the
// store that is the default then.
func closureOf(t *testing.T, n int) (root, drv string, closure []string) {
	t.Helper()
	dir := t.TempDir()
	root = filepath.Join(dir, "root")
	write(t, dir, map[string]string{
		"source/bin/tool*": "#!/bin/sh\n", "source/link": "-> bin/tool", "source/empty": "", "source/a/b/c/d/e": "deep",
		"source/large": string(castoretest.Pattern(n, 5)), "source/odd .nar \xc3\xbc": "odd",
		"x.nix": `derivation { name = "x"; system = "none"; builder = "none"; src = ./source; text = builtins.toFile "text" "contents"; }`,
	})
	drv = nix(t, root, "nix-instantiate", dir+"/x.nix")[0]
	newStore(t)
	must(t, "copy", "--from-nix", "--nix-root", root, drv)
	return root, drv, nix(t, root, "nix-store", "-qR", drv)
}

// same fails unless the default store holds the closure of Nix's store, by NAR
// hash, and is whole.
func same(t *testing.T, root string, closure []string) {
	t.Helper()
	if stored := fsck(t); len(stored) != len(closure) {
		t.Errorf("the store holds %q, want %q", stored, closure)
	}
	for _, p := range closure {
		if hash := nix(t, root, "nix-store", "-q", "--hash", p)[0]; mustJSON[statJSON](t, "stat", "--json", p).Info.NarHash != hash {
			t.Errorf("%s: another NAR hash than %s", p, hash)
		}
	}
}

// largeNAR is the size of the large file of caches' tests, in bytes.
func largeNAR() int {
	if testing.Short() {
		return 5 << 20
	}
	return 101 << 20
}

// TestPushToNarBridge pushes a closure to a bridge in a process of its own, which
// wants a token and a signature, and fetches it into a third store.
func TestPushToNarBridge(t *testing.T) {
	root, drv, closure := closureOf(t, largeNAR())
	key, public := signingKey(t, "push-1")
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + freePort(t)
	bridgeStore := filepath.Join(t.TempDir(), "bridge")
	background(t, bridgeStore, "tcp", address, "nar-bridge", "-l", address, "--auth-token-file", token, "--trusted-public-keys", public, "--require-signature")
	at := "http://" + address
	refused(t, 1, []string{"401", "token"}, "push", at, drv)
	for _, compression := range []string{"zstd", "none"} { // the second time all is there
		out := strings.Fields(must(t, "push", "--compression", compression, "--signing-key", key, at+"?token-file="+token, drv))
		if want := map[string]int{"zstd": len(closure)}[compression]; len(out) != want {
			t.Errorf("%s: pushed %q, want %d paths", compression, out, want)
		}
	}
	newStore(t)
	refused(t, 1, []string{"no signature by a trusted key"}, "fetch", "--from", at+"?trusted-public-keys=other-1:"+strings.Repeat("A", 43)+"=", drv)
	must(t, "fetch", "--from", at+"?trusted-public-keys="+public, drv)
	same(t, root, closure)
	t.Setenv("STOREBOOT_STORE", bridgeStore)
	same(t, root, closure)
	must(t, "verify")
}

// TestS3Cache pushes to a cache in a real S3 server and fetches from it.
func TestS3Cache(t *testing.T) {
	if testing.Short() && os.Getenv("CI") == "" {
		t.Skip("SKIP: the S3 server may have to be built")
	}
	root, drv, closure := closureOf(t, largeNAR())
	server := s3test.Start(t)
	server.Bucket(t, "nixcache", "")
	user, password := s3test.Credentials()
	t.Setenv("AWS_ACCESS_KEY_ID", user)
	t.Setenv("AWS_SECRET_ACCESS_KEY", password)
	at := "s3://nixcache/some/prefix?region=us-east-1&endpoint=" + server.Endpoint
	if out := strings.Fields(must(t, "push", at, drv)); len(out) != len(closure) {
		t.Errorf("pushed %q", out)
	}
	if out := must(t, "push", at, drv); out != "" {
		t.Errorf("pushed again: %q", out)
	}
	newStore(t)
	must(t, "fetch", "--from", at+"&allow-unsigned=1", drv)
	same(t, root, closure)
	newStore(t)
	refused(t, 1, []string{"nor in a binary cache"}, "fetch", "--from", at+"&allow-unsigned=1", "/nix/store/ab3li50xq0nl4q5lxdyinb8w8y13my9s-hello")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	refused(t, 1, []string{"s3://nixcache"}, "fetch", "--from", at+"&allow-unsigned=1&retries=0", drv)
}

// castoreWorld is a store behind a daemon, with a bridge before it, each in a
// process of its own, and a log of what the bridge is asked for.
func castoreWorld(t *testing.T) (drv string, closure []string, root string, log *requestLog, grpc string) {
	t.Helper()
	root, drv, closure = closureOf(t, 3<<20)
	socket := filepath.Join(shortDir(t), "daemon")
	background(t, os.Getenv("STOREBOOT_STORE"), "unix", socket, "daemon", "-l", socket)
	address := "127.0.0.1:" + freePort(t)
	grpc = "grpc+unix://" + socket
	background(t, t.TempDir(), "tcp", address, "nar-bridge", "-l", address, "--uploads", filepath.Join(t.TempDir(), "uploads"),
		"--blob-service-addr", grpc, "--directory-service-addr", grpc, "--path-info-service-addr", grpc)
	return drv, closure, root, newRequestLog(t, "http://"+address), grpc
}

// TestCastoreFromDaemon fetches by the castore protocol from a real daemon and a
// real bridge: no NAR is asked for; and by NAR where the daemon is gone, the tree
// is another one, or the NAR would be.
func TestCastoreFromDaemon(t *testing.T) {
	drv, closure, root, log, grpc := castoreWorld(t)
	params := "?allow-unsigned=1&retries=0&castore="
	newStore(t)
	must(t, "fetch", "--from", log.URL+params+grpc, drv)
	same(t, root, closure)
	if n := log.count("/nar/"); n != 0 {
		t.Errorf("%d NARs were asked for", n)
	}
	newStore(t)
	must(t, "fetch", "--from", log.URL+params+"grpc+unix:///nowhere/socket", drv)
	same(t, root, closure)
	if n := log.count("/nar/"); n != len(closure) {
		t.Errorf("%d NARs were asked for, want %d", n, len(closure))
	}
	// A bridge whose narinfo names the node of another path: what is copied has
	// another hash, and the NAR of that URL too.
	other := closure[slices.IndexFunc(closure, func(p string) bool { return strings.HasSuffix(p, "-text") })]
	var url string
	for line := range strings.Lines(httpGet(t, log.URL+"/"+filepath.Base(other)[:32]+".narinfo")) {
		if strings.HasPrefix(line, "URL: ") {
			url = line
		}
	}
	size := func(s string) string { _, n, _ := strings.Cut(s, "narsize="); return strings.TrimSpace(n) }
	log.change = func(r *http.Response) error {
		if strings.HasSuffix(r.Request.URL.Path, ".narinfo") && !strings.Contains(r.Request.URL.Path, filepath.Base(other)[:32]) {
			var text bytes.Buffer
			if _, err := text.ReadFrom(r.Body); err != nil {
				return err
			}
			for line := range strings.Lines(text.String()) {
				if strings.HasPrefix(line, "URL: ") {
					lie := strings.Replace(text.String(), line, strings.Replace(url, "narsize="+size(url), "narsize="+size(line), 1), 1)
					r.Body = readCloser{strings.NewReader(lie)}
					r.ContentLength = int64(len(lie))
					r.Header.Set("Content-Length", fmt.Sprint(len(lie)))
					break
				}
			}
		}
		return nil
	}
	newStore(t)
	code, _, stderr := virtiofsd("fetch", "--from", log.URL+params+grpc, drv)
	if code != 1 {
		t.Errorf("a bridge that lies: exit %d, %s", code, stderr)
	}
	for _, p := range fsck(t) {
		if p != other {
			t.Errorf("%s is stored, of which the bridge lied", p)
		}
	}
	must(t, "verify")
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func httpGet(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return b.String()
}

// TestCastoreLazyFromDaemon reads one file of a closure on demand: that file
// alone comes.
func TestCastoreLazyFromDaemon(t *testing.T) {
	_, closure, root, log, grpc := castoreWorld(t)
	source := closure[slices.IndexFunc(closure, func(p string) bool { return strings.HasSuffix(p, "-source") })]
	store := newStore(t)
	want, err := os.ReadFile(root + source + "/a/b/c/d/e")
	if err != nil {
		t.Fatal(err)
	}
	if got := must(t, "cat", "--substituter", log.URL+"?allow-unsigned=1&castore-lazy=1&castore="+grpc, source+"/a/b/c/d/e"); got != string(want) {
		t.Errorf("read %q, want %q", got, want)
	}
	if n := log.count("/nar/"); n != 0 {
		t.Errorf("%d NARs were asked for", n)
	}
	var blobs []string
	err = filepath.WalkDir(filepath.Join(store, "blobs"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil && info.Size() > 0 {
				blobs = append(blobs, p)
			}
		}
		return err
	})
	if err != nil || len(blobs) != 1 {
		t.Errorf("the store has the blobs %q, want one: %v", blobs, err)
	}
}

// TestStalledCache mounts a store with a cache whose NARs do not come: who reads
// gets EIO in time, and later the path, as the download went on.
func TestStalledCache(t *testing.T) {
	mountable(t)
	root, drv := instantiate(t)
	cache := pushed(t, root, drv)
	release := make(chan struct{})
	files := http.FileServer(http.Dir(cache))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/nar/") {
			select {
			case <-release:
			case <-r.Context().Done():
				return
			}
		}
		files.ServeHTTP(w, r)
	}))
	defer server.Close()
	newStore(t)
	dir := t.TempDir()
	end := startMount(t, dir, "--substituter", server.URL+"?allow-unsigned=1", "--fetch-timeout", "200ms")
	file := filepath.Join(dir, filepath.Base(drv))
	if _, err := os.ReadFile(file); !errors.Is(err, syscall.EIO) {
		t.Errorf("while the cache stalls: %v", err)
	}
	close(release)
	var got []byte
	await(t, "the path", func() bool {
		var err error
		got, err = os.ReadFile(file)
		return err == nil
	})
	if want, err := os.ReadFile(root + drv); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d, %v", len(got), len(want), err)
	}
	code, text := end()
	if code != 0 {
		t.Errorf("exit %d", code)
	}
	if !strings.Contains(text, "still being fetched after 200ms") {
		t.Errorf("the log does not say why: %s", text)
	}
}
