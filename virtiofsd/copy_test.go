package main

import (
	"database/sql"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// instantiate makes a closure in a Nix store of the test's own: a derivation,
// a file that it refers to, and an added directory.
func instantiate(t *testing.T) (root, drv string) {
	t.Helper()
	dir := t.TempDir()
	root = filepath.Join(dir, "root")
	write(t, dir, map[string]string{
		"source/bin/tool*": "#!/bin/sh\n", "source/link": "-> bin/tool",
		"x.nix": `derivation { name = "x"; system = "none"; builder = "none"; src = ./source; text = builtins.toFile "text" "contents"; }`,
	})
	return root, nix(t, root, "nix-instantiate", dir+"/x.nix")[0]
}

func TestCopyFromNix(t *testing.T) {
	newStore(t)
	root, drv := instantiate(t)
	want := nix(t, root, "nix-store", "-qR", drv)
	if len(want) != 3 {
		t.Fatalf("closure %q", want)
	}
	copied := strings.Fields(must(t, "copy", "--from-nix", "--nix-root", root, drv))
	if len(copied) != 3 || copied[2] != drv {
		t.Errorf("copied %q, the closure is %q", copied, want)
	}
	got := fsck(t)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the store holds %q, want %q", got, want)
	}
	for _, p := range want {
		info := mustJSON[statJSON](t, "stat", "--json", p).Info
		if hash := nix(t, root, "nix-store", "-q", "--hash", p)[0]; info.NarHash != hash {
			t.Errorf("%s: NAR hash %s, Nix has %s", p, info.NarHash, hash)
		}
		refs := nix(t, root, "nix-store", "-q", "--references", p)
		slices.Sort(refs)
		if !slices.Equal(info.References, refs) {
			t.Errorf("%s: references %q, Nix has %q", p, info.References, refs)
		}
		if info.CA == "" {
			t.Errorf("%s has no content address", p)
		}
	}
	// Again: nothing to do.
	for _, c := range mustJSON[[]copyJSON](t, "copy", "--json", "--from-nix", "--nix-root", root, drv) {
		if c.Copied {
			t.Errorf("%s was copied again", c.Path)
		}
	}
	// What Nix learns later is added, without reading the path again.
	source := want[slices.IndexFunc(want, func(p string) bool { return strings.HasSuffix(p, "-source") })]
	sig := "key-1:" + strings.Repeat("A", 86) + "=="
	edit(t, root, "UPDATE ValidPaths SET sigs = ?, deriver = ? WHERE path = ?", sig, drv, source)
	if err := os.Rename(root+source, root+source+".away"); err != nil {
		t.Fatal(err)
	}
	before := mustJSON[statJSON](t, "stat", "--json", source).Info
	if out := must(t, "copy", "--from-nix", "--nix-root", root, drv); out != "" {
		t.Errorf("copied %q", out)
	}
	after := mustJSON[statJSON](t, "stat", "--json", source).Info
	before.Signatures, before.Deriver = []string{sig}, drv
	if !reflect.DeepEqual(before, after) {
		t.Errorf("%+v, want %+v", after, before)
	}
}

// edit changes a Nix database.
func edit(t *testing.T, root, query string, args ...any) {
	t.Helper()
	pool, err := sql.Open("sqlite", "file:"+root+"/nix/var/nix/db/db.sqlite")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if r, err := pool.Exec(query, args...); err != nil {
		t.Fatal(err)
	} else if n, err := r.RowsAffected(); n == 0 || err != nil {
		t.Fatalf("%s changes nothing, %v", query, err)
	}
}

// TestCopyNames holds that a symlink to a store path and a path below one stand
// for it.
func TestCopyNames(t *testing.T) {
	newStore(t)
	root, drv := instantiate(t)
	source := ""
	for _, p := range nix(t, root, "nix-store", "-qR", drv) {
		if strings.HasSuffix(p, "-source") {
			source = p
		}
	}
	out := must(t, "copy", "--from-nix", "--nix-root", root, source+"/bin/tool", source)
	if strings.TrimSpace(out) != source {
		t.Errorf("copied %q", out)
	}
	if text := must(t, "cat", source+"/link"); text != "#!/bin/sh\n" {
		t.Errorf("%q", text)
	}
}

func TestCopyRefuses(t *testing.T) {
	newStore(t)
	root, drv := instantiate(t)
	const none = "/nix/store/00000000000000000000000000000000-none"
	from := []string{"copy", "--from-nix", "--nix-root", root}
	refused(t, 1, []string{none, "not a valid path"}, append(from, none)...)
	refused(t, 1, []string{none, "not a valid path"}, append(from, drv, none)...)
	refused(t, 1, []string{none, "no Nix store is here"}, "copy", "--from-nix", "--nix-root", t.TempDir(), none)
	refused(t, 2, []string{"--from-nix"}, "copy", none)
	refused(t, 2, []string{"/etc/passwd", "/nix/store"}, append(from, "/etc/passwd")...)
	refused(t, 1, []string{"result", "no such file"}, append(from, "./result")...)
	refused(t, 2, []string{"STOREPATH is missing"}, from...)
	if list := must(t, "list"); list != "" {
		t.Errorf("the store holds %q", list)
	}
	// Contents that are not what Nix has recorded are not stored under the path.
	if err := os.Chmod(root+drv, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+drv, []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := virtiofsd(append(from, drv)...)
	if code != 1 || !strings.Contains(stderr, drv) || !strings.Contains(stderr, "NAR hash") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if paths := fsck(t); slices.Contains(paths, drv) || len(paths) != 2 {
		t.Errorf("the store holds %q", paths)
	}
}
