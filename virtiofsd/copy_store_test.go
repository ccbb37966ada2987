package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCopyBetween(t *testing.T) {
	newStore(t)
	p := importFiles(t, "a", "b", "c", "other")
	refer(t, p["c"], p["b"], p["c"])
	refer(t, p["b"], p["a"])
	target := filepath.Join(t.TempDir(), "target")
	if out := strings.Fields(must(t, "copy", "--to-store", target, p["c"])); !slices.Equal(out, []string{p["a"], p["b"], p["c"]}) {
		t.Errorf("copied %q", out)
	}
	for _, name := range []string{"a", "b", "c"} {
		if from, to := must(t, "stat", "--json", p[name]), must(t, "stat", "--json", "--store", target, p[name]); from != to {
			t.Errorf("%s is %s, the copy %s", name, from, to)
		}
	}
	must(t, "verify", "--store", target)
	all := mustJSON[[]copyJSON](t, "copy", "--json", "--all",
		"--to-blob-service-addr", "file://"+target+"/blobs", "--to-directory-service-addr", "sqlite://"+target+"/store.sqlite", "--to-path-info-service-addr", "sqlite://"+target+"/store.sqlite")
	if len(all) != 4 {
		t.Fatalf("%+v", all)
	}
	for _, c := range all {
		if c.Copied != (c.Path == p["other"]) {
			t.Errorf("%+v", c)
		}
	}
	if out := must(t, "copy", "--to-store", target, "--all"); out != "" {
		t.Errorf("copied again: %q", out)
	}
	refused(t, 2, []string{"--to-store"}, "copy", "--to-blob-service-addr", "memory:", p["a"])
	refused(t, 2, []string{"--from-nix"}, "copy", "--from-nix", "--to-store", target, p["a"])
	refused(t, 2, []string{"STOREPATH is missing"}, "copy", "--to-store", target)
	refused(t, 2, []string{"unexpected"}, "copy", "--to-store", target, "--all", p["a"])
	refused(t, 1, []string{"copy to", "ftp"}, "copy", "--to-store", target, "--to-blob-service-addr", "ftp://x", p["a"])
	const none = "/nix/store/00000000000000000000000000000000-none"
	refused(t, 1, []string{none, "not in the store"}, "copy", "--to-store", target, none)
}

// TestCopyDamaged holds that of a damaged source nothing is stored under a path.
func TestCopyDamaged(t *testing.T) {
	store := newStore(t)
	path := strings.TrimSpace(must(t, "import", sampleTree(t)))
	d := mustJSON[statJSON](t, "stat", "--json", path+"/large").Digest
	damageBlob(t, store, d, flip)
	target := filepath.Join(t.TempDir(), "target")
	code, _, stderr := virtiofsd("copy", "--to-store", target, path)
	if code != 1 || !strings.Contains(stderr, path) || !strings.Contains(stderr, "damaged") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if list := must(t, "list", "--store", target); list != "" {
		t.Errorf("the copy holds %q", list)
	}
	must(t, "verify", "--store", target)
}

// TestDiskFull holds that a full disk is a clear error, costs nothing that was
// stored, and that what it stopped goes on once there is room.
func TestDiskFull(t *testing.T) {
	newStore(t)
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=3m"); err != nil {
		t.Skipf("SKIP: a small file system cannot be mounted (root may): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	target := dir + "/store"
	small := filepath.Join(t.TempDir(), "small")
	write(t, small, map[string]string{"a/b": "c"})
	stays := strings.TrimSpace(must(t, "import", small))
	large := strings.TrimSpace(must(t, "import", sampleTree(t)))
	must(t, "copy", "--to-store", target, stays)
	for _, args := range [][]string{{"import", "--store", target, sampleTree(t)}, {"copy", "--to-store", target, large}} {
		code, stdout, stderr := virtiofsd(args...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, "no space left") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d: %s%s", args[0], code, stdout, stderr)
		}
		must(t, "verify", "--store", target)
		if list := strings.Fields(must(t, "list", "--store", target)); !slices.Equal(list, []string{stays}) {
			t.Errorf("%s: the store holds %q", args[0], list)
		}
		// A collection works on a full disk, and makes room.
		must(t, "gc", "--store", target, "--root", stays, "--grace", "0")
	}
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT, "size=32m"); err != nil {
		t.Fatal(err)
	}
	must(t, "copy", "--to-store", target, large)
	must(t, "verify", "--store", target)
	if left, err := os.ReadDir(target + "/blobs/.staging"); err != nil || len(left) != 0 {
		t.Errorf("%d staging directories are left, %v", len(left), err)
	}
}
