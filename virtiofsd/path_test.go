package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPaths(t *testing.T) {
	newStore(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"other": "of another path"})
	other := strings.TrimSpace(must(t, "import", dir+"/other"))
	write(t, dir, map[string]string{
		"p/file": "contents", "p/exe*": "program", "p/sub/file": "deeper", "p/sub/up": "-> ../file", "p/new\nline": "x",
		"p/dir": "-> sub", "p/abs": "-> " + other, "p/chain": "-> dir/up", "p/loop": "-> loop", "p/out": "-> /etc/passwd", "p/far": "-> ../../../etc/passwd",
		"p/dangling": "-> nothing", "p/root": "-> ..", "p/empty": "/",
	})
	p := strings.TrimSpace(must(t, "import", dir+"/p"))
	link := strings.TrimSpace(must(t, "import", "--name", "link", dir+"/p/abs"))

	for path, want := range map[string]string{
		p + "/file": "contents", p + "/sub/up": "contents", p + "/dir/file": "deeper", p + "/chain": "contents", p + "/abs": "of another path",
		p + "/sub/../file": "contents", p + "//./file/": "contents", link: "of another path", other: "of another path",
	} {
		if got := must(t, "cat", path); got != want {
			t.Errorf("cat %s: %q, want %q", path, got, want)
		}
	}
	for _, tt := range []struct{ path, err string }{
		{p, "is a directory"}, {p + "/dir", "is a directory"},
		{p + "/nothing", `no entry "nothing"`}, {p + "/dangling", `no entry "nothing"`}, {p + "/file/x", "is a file, not a directory"},
		{p + "/loop", "symlinks"}, {p + "/out", "not in the store"}, {p + "/far", "leads out"}, {p + "/root", "the store itself"},
		{p[:len(p)-1] + "q", "is not in the store: import it with 'virtiofsd import'"}, // the hash alone is not enough
		{"/nix/store/00000000000000000000000000000000-none/x", "store path /nix/store/00000000000000000000000000000000-none is not in the store"},
	} {
		refused(t, 1, []string{tt.err}, "cat", tt.path)
	}
	for _, command := range []string{"cat", "ls", "stat"} {
		refused(t, 2, []string{"/usr/bin", "/nix/store"}, command, "/usr/bin")
		refused(t, 2, []string{"PATH is missing"}, command)
	}

	if got, want := must(t, "ls", p), "abs\nchain\ndangling\ndir\nempty\nexe\nfar\nfile\nloop\n\"new\\nline\"\nout\nroot\nsub\n"; got != want {
		t.Errorf("ls: %q, want %q", got, want)
	}
	if got, want := must(t, "ls", "-lR", p+"/sub"), "-r--r--r--            6 file\nlrwxrwxrwx            0 up -> ../file\n"; got != want {
		t.Errorf("ls -lR: %q, want %q", got, want)
	}
	if got := must(t, "ls", "-R", p); !strings.Contains(got, "\nsub\nsub/file\nsub/up\n") {
		t.Errorf("ls -R: %q", got)
	}
	if got := must(t, "ls", "-l", p); !strings.Contains(got, "-r-xr-xr-x            7 exe\n") || !strings.Contains(got, "dr-xr-xr-x            4 sub\n") {
		t.Errorf("ls -l: %q", got)
	}
	if got := must(t, "ls", p+"/empty") + must(t, "ls", p+"/exe"); got != p+"/exe\n" {
		t.Errorf("ls of an empty directory and a file: %q", got)
	}
	// A symlink at the end is shown, one on the way followed.
	if got := must(t, "ls", "-l", p+"/dir"); got != "lrwxrwxrwx            0 "+p+"/dir -> sub\n" {
		t.Errorf("ls of a symlink: %q", got)
	}
	if got := mustJSON[statJSON](t, "stat", "--json", p+"/dir"); got.Kind != "symlink" || got.Target != "sub" || got.Digest != "" {
		t.Errorf("stat of a symlink: %+v", got)
	}
	if got := mustJSON[statJSON](t, "stat", "--json", p+"/dir/file"); got.Path != p+"/sub/file" || *got.Size != 6 || got.Info != nil {
		t.Errorf("stat through a symlink: %+v", got)
	}
	if got := must(t, "stat", p+"/exe"); !strings.Contains(got, "executable file") || !strings.Contains(got, "7 bytes") {
		t.Errorf("stat: %s", got)
	}
	if got := must(t, "stat", p); !strings.Contains(got, "twice the entries") || !strings.Contains(got, "NAR hash:") {
		t.Errorf("stat: %s", got)
	}
	if got := mustJSON[[]nodeJSON](t, "ls", "--json", p+"/empty"); got == nil || len(got) != 0 {
		t.Errorf("ls --json of an empty directory: %v", got)
	}
}

func TestList(t *testing.T) {
	newStore(t)
	if got := must(t, "list"); got != "" {
		t.Errorf("an empty store lists %q", got)
	}
	if got := mustJSON[[]pathJSON](t, "list", "--json"); got == nil || len(got) != 0 {
		t.Errorf("an empty store lists %v", got)
	}
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "1", "b": "-> a", "c/d": "2"})
	want := must(t, "import", dir+"/a", dir+"/b", dir+"/c")
	list := strings.Fields(must(t, "list"))
	infos := mustJSON[[]pathJSON](t, "list", "--json")
	if len(list) != 3 || len(infos) != 3 {
		t.Fatalf("%q, %+v", list, infos)
	}
	for i, p := range list {
		if !strings.Contains(want, p+"\n") || infos[i].Path != p || infos[i].NarSize == 0 {
			t.Errorf("%s, %+v", p, infos[i])
		}
	}
	refused(t, 2, []string{"unexpected argument"}, "list", "x")
}

// TestCatDamaged holds that contents that are not what was stored are noticed.
func TestCatDamaged(t *testing.T) {
	store := newStore(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "contents"})
	p := strings.TrimSpace(must(t, "import", dir+"/a"))
	overwriteBlobs(t, store, "cantents")
	code, _, stderr := virtiofsd("cat", p)
	if code != 1 || !strings.Contains(stderr, "damaged") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// overwriteBlobs gives every blob of the store in dir other contents.
func overwriteBlobs(t *testing.T, dir, contents string) {
	t.Helper()
	blobs, err := filepath.Glob(dir + "/blobs/??/*")
	if err != nil || len(blobs) == 0 {
		t.Fatal(blobs, err)
	}
	for _, b := range blobs {
		if err := errors.Join(os.Remove(b), os.WriteFile(b, []byte(contents), 0o444)); err != nil {
			t.Fatal(err)
		}
	}
}
