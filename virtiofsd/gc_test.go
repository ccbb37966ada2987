package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"storeboot/internal/storepath"
)

// refer makes one stored path refer to others.
func refer(t testing.TB, from string, to ...string) {
	t.Helper()
	info := mustStored(t, from)
	for _, path := range to {
		p, _, err := storepath.ParseAbsolute(path)
		if err != nil {
			t.Fatal(err)
		}
		info.References = append(info.References, p)
	}
	putInfo(t, info)
}

// importFiles imports a file for each name, and one content that all share.
func importFiles(t testing.TB, names ...string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	paths := map[string]string{}
	for _, name := range names {
		write(t, dir, map[string]string{name + "/own/file": "of " + name, name + "/shared/file": "of all"})
		paths[name] = strings.TrimSpace(must(t, "import", filepath.Join(dir, name)))
	}
	return paths
}

func stored(t testing.TB) []string {
	t.Helper()
	list := strings.Fields(must(t, "list"))
	slices.Sort(list)
	return list
}

func TestGC(t *testing.T) {
	store := newStore(t)
	p := importFiles(t, "root", "needed", "deeper", "named", "garbage", "more")
	refer(t, p["root"], p["root"], p["needed"]) // itself, too
	refer(t, p["needed"], p["deeper"], "/nix/store/00000000000000000000000000000000-gone")
	must(t, "gc", "--add-root", "a-root", p["named"])
	keep := []string{p["root"], p["needed"], p["deeper"], p["named"]}
	slices.Sort(keep)
	args := []string{"gc", "--json", "--root", p["root"], "--grace", "0"}
	// All is young.
	if got := mustJSON[gcJSON](t, "gc", "--json"); len(got.Removed) != 0 || got.KeptPaths != 6 || got.Blobs != 0 {
		t.Errorf("with the usual grace: %+v", got)
	}
	dry := mustJSON[gcJSON](t, append(args, "--dry-run")...)
	if len(stored(t)) != 6 {
		t.Fatalf("a dry run removed something: %q", stored(t))
	}
	got := mustJSON[gcJSON](t, args...)
	want := []string{p["garbage"], p["more"]}
	slices.Sort(want)
	slices.Sort(got.Removed)
	slices.Sort(dry.Removed)
	// Of each: the root and own; shared is in all.
	if !slices.Equal(got.Removed, want) || got.Directories != 4 || got.Blobs != 2 || got.KeptPaths != 4 || got.KeptBlobs != 5 {
		t.Errorf("%+v", got)
	}
	if dry.DryRun = false; fmt.Sprint(dry) != fmt.Sprint(got) {
		t.Errorf("the dry run said %+v, then came %+v", dry, got)
	}
	if list := stored(t); !slices.Equal(list, keep) {
		t.Errorf("the store holds %q, want %q", list, keep)
	}
	must(t, "verify")
	if files, _ := filepath.Glob(store + "/blobs/??/*"); len(files) != 5 {
		t.Errorf("%d blobs are left", len(files))
	}
	if got := mustJSON[gcJSON](t, args...); len(got.Removed)+got.Directories+got.Blobs != 0 {
		t.Errorf("a second time: %+v", got)
	}
	// Without roots only --all goes on.
	must(t, "gc", "--remove-root", "a-root")
	refused(t, 1, []string{"no root", "--add-root", "--all"}, "gc", "--grace", "0")
	if got := mustJSON[gcJSON](t, "gc", "--all", "--grace", "0", "--json"); len(got.Removed) != 4 || got.KeptBlobs != 0 {
		t.Errorf("--all: %+v", got)
	}
	if list := stored(t); len(list) != 0 {
		t.Errorf("the store holds %q", list)
	}
	// What was removed can be stored again.
	importFiles(t, "root")
	must(t, "verify")
}

func TestGCRoots(t *testing.T) {
	store := newStore(t)
	p := importFiles(t, "a", "b")
	must(t, "gc", "--add-root", "x", p["a"])
	must(t, "gc", "--add-root", "y", p["a"])
	must(t, "gc", "--add-root", "x", p["b"]) // instead
	if got, want := must(t, "gc", "--list-roots"), "x "+p["b"]+"\ny "+p["a"]+"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := mustJSON[map[string]string](t, "gc", "--list-roots", "--json"); got["x"] != p["b"] || len(got) != 2 {
		t.Errorf("%q", got)
	}
	const none = "/nix/store/00000000000000000000000000000000-none"
	refused(t, 1, []string{none, "not in the store"}, "gc", "--add-root", "z", none)
	refused(t, 1, []string{none}, "gc", "--root", none)
	refused(t, 1, []string{`"../z"`}, "gc", "--add-root", "../z", p["a"])
	refused(t, 1, []string{`".z"`}, "gc", "--add-root", ".z", p["a"])
	refused(t, 1, []string{`"z"`, "--list-roots"}, "gc", "--remove-root", "z")
	refused(t, 2, []string{"STOREPATH"}, "gc", "--add-root", "z")
	refused(t, 2, []string{"--add-root"}, "gc", "--add-root", "z", "--dry-run", p["a"])
	refused(t, 2, []string{"only one"}, "gc", "--add-root", "z", "--list-roots", p["a"])
	refused(t, 2, []string{"unexpected"}, "gc", p["a"])
	refused(t, 2, []string{"negative"}, "gc", "--grace", "-1s")
	refused(t, 1, []string{"file:"}, "gc", "--all", "--blob-service-addr", "memory:")
	refused(t, 1, []string{"file:"}, "gc", "--all", "--path-info-service-addr", "memory:")
	// The roots are those of the store, by whatever name it is given.
	if got := must(t, "gc", "--list-roots", "--store", "/nowhere", "--path-info-service-addr", "sqlite://"+store+"/store.sqlite"); !strings.HasPrefix(got, "x ") {
		t.Errorf("%q", got)
	}
	if err := os.Symlink("/etc", store+"/roots/strange"); err != nil {
		t.Fatal(err)
	}
	refused(t, 1, []string{"roots/strange", "remove it"}, "gc", "--grace", "0")
	if list := stored(t); len(list) != 2 {
		t.Errorf("the store holds %q", list)
	}
}

// TestGCDamaged holds that nothing is removed as long as it is not known what
// is needed.
func TestGCDamaged(t *testing.T) {
	store := newStore(t)
	p := importFiles(t, "root", "garbage")
	d := mustJSON[statJSON](t, "stat", "--json", p["root"]+"/own").Digest
	editStore(t, store, "UPDATE directory SET encoded = x'00' WHERE digest = ?", digestBytes(t, d))
	refused(t, 1, []string{p["root"], "virtiofsd verify"}, "gc", "--root", p["root"], "--grace", "0")
	if list := stored(t); len(list) != 2 {
		t.Errorf("the store holds %q", list)
	}
}

// TestGCGrace holds that what is imported again is young again.
func TestGCGrace(t *testing.T) {
	store := newStore(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"old/a/x": "1", "again/a/y": "2"})
	old := strings.TrimSpace(must(t, "import", dir+"/old"))
	again := strings.TrimSpace(must(t, "import", dir+"/again"))
	editStore(t, store, "UPDATE path_info SET used = used - 100000")
	editStore(t, store, "UPDATE directory SET used = used - 100000")
	age(t, store)
	must(t, "import", dir+"/again")
	got := mustJSON[gcJSON](t, "gc", "--all", "--json")
	if len(got.Removed) != 1 || got.Removed[0] != old || got.Directories != 2 || got.Blobs != 1 {
		t.Errorf("%+v", got)
	}
	if list := stored(t); len(list) != 1 || list[0] != again {
		t.Errorf("the store holds %q", list)
	}
	must(t, "verify")
}

// TestGCTogether has processes import the same trees and collect, all at once:
// what is a root stays, whatever the others remove meanwhile.
func TestGCTogether(t *testing.T) {
	newStore(t)
	shared := manyFiles(t, 0)
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	done := make(chan struct{})
	var collectors, importers sync.WaitGroup
	for range 2 {
		collectors.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if out, err := process("gc", "--all", "--grace", "0").CombinedOutput(); err != nil {
					t.Errorf("gc: %v: %s", err, out)
					return
				}
			}
		})
	}
	var mu sync.Mutex
	roots := map[string]string{}
	for i := range 2 {
		importers.Go(func() {
			for n := range rounds {
				// Between the import and the root the path may go: then again.
				name := fmt.Sprintf("root-%d-%d", i, n%2)
				for {
					out, err := process("import", shared, "--name", fmt.Sprint("tree", n%3)).CombinedOutput()
					if err != nil {
						t.Errorf("import: %v: %s", err, out)
						return
					}
					path := strings.TrimSpace(string(out))
					out, err = process("gc", "--add-root", name, path).CombinedOutput()
					if err == nil {
						mu.Lock()
						roots[name] = path
						mu.Unlock()
						break
					}
					if !strings.Contains(string(out), "not in the store") {
						t.Errorf("gc --add-root: %v: %s", err, out)
						return
					}
				}
			}
		})
	}
	importers.Wait()
	close(done)
	collectors.Wait()
	must(t, "verify")
	list := stored(t)
	for name, path := range roots {
		if !slices.Contains(list, path) {
			t.Errorf("the root %s, %s, was collected", name, path)
		}
	}
	must(t, "gc", "--grace", "0")
	fsck(t)
}

// age makes every blob look as if it had not been used for a day.
func age(t testing.TB, store string) {
	t.Helper()
	files, err := filepath.Glob(store + "/blobs/??/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if err := os.Chtimes(f, time.Now(), time.Now().Add(-24*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
}
