package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pushed is a cache with a closure of Nix's in it, pushed by us.
func pushed(t *testing.T, root, drv string, args ...string) (dir string) {
	t.Helper()
	newStore(t)
	must(t, "copy", "--from-nix", "--nix-root", root, drv)
	dir = t.TempDir()
	must(t, append(append([]string{"push"}, args...), "file://"+dir, drv)...)
	return dir
}

// TestPushIsReadByNix has the real Nix copy what push wrote, with signatures.
func TestPushIsReadByNix(t *testing.T) {
	root, drv := instantiate(t)
	key, public := signingKey(t, "test-1")
	compressions := []string{"zstd", "none", "xz", "gzip"}
	if testing.Short() {
		compressions = compressions[:1]
	}
	for _, compression := range compressions {
		dir := pushed(t, root, drv, "--compression", compression, "--signing-key", key)
		other := filepath.Join(t.TempDir(), "root")
		nixCommand(t, other, "copy", "--derivation", "--option", "trusted-public-keys", public, "--from", "file://"+dir, drv)
		for _, p := range nix(t, root, "nix-store", "-qR", drv) {
			a, b := nix(t, root, "nix-store", "-q", "--hash", p), nix(t, other, "nix-store", "-q", "--hash", p)
			if !slices.Equal(a, b) || !bytes.Equal(dump(t, root+p), dump(t, other+p)) {
				t.Errorf("%s: %s: %s became %s", compression, p, a, b)
			}
			if strings.HasSuffix(p, ".drv") {
				continue // Nix asks for what it makes
			}
			if sigs := nixCommand(t, other, "path-info", "--sigs", "--store", "file://"+dir, p); !strings.Contains(strings.Join(sigs, " "), "test-1:") {
				t.Errorf("%s: signatures %q", p, sigs)
			}
		}
	}
}

func TestPushOverHTTPAndBack(t *testing.T) {
	newStore(t)
	path := importSample(t)
	dir := t.TempDir()
	server, requests := binaryCache(t, dir)
	if out := must(t, "push", server.URL, path); out != path+"\n" {
		t.Errorf("pushed %q", out)
	}
	before := requests.Load()
	if out := must(t, "push", server.URL, path); out != "" || requests.Load()-before != 3 {
		t.Errorf("pushed again %q with %d requests", out, requests.Load()-before)
	}
	// The same bytes come back, through any command that reads.
	want := must(t, "export", path)
	newStore(t)
	if got := must(t, "export", "--substituter", server.URL+"?allow-unsigned=1", path); got != want {
		t.Errorf("%d bytes came back of %d", len(got), len(want))
	}
	server.Close()
	if got := must(t, "export", path); got != want {
		t.Errorf("from the store: %d bytes of %d", len(got), len(want))
	}
	newStore(t)
	refused(t, 1, []string{"file:///", "not"}, "push", "file:///dev/null/x", importSample(t))
	refused(t, 2, []string{"rar"}, "push", "--compression", "rar", "file://"+dir, path)
	refused(t, 2, []string{"unknown scheme"}, "push", "gopher://x", path)
	refused(t, 2, []string{"--jobs"}, "push", "--jobs", "0", "file://"+dir, path)
	refused(t, 1, []string{"not in the store"}, "push", "file://"+dir, "/nix/store/ab3li50xq0nl4q5lxdyinb8w8y13my9s-hello")
}
