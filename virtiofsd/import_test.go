package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storeaddr"
)

// TestImportAsNix compares the store paths with those of the real nix-store.
func TestImportAsNix(t *testing.T) {
	newStore(t)
	dir, root := t.TempDir(), t.TempDir()
	write(t, dir, map[string]string{
		"file": "Hello World!", "empty": "", "exe*": "Hello World!", "link": "-> file", "dangling": "-> /nowhere/at/all",
		"none": "/", "name+with-all_kinds?of=chars.1": "x", "large": string(castoretest.Pattern(5<<20+3, 1)),
		"tree/bin/program*": "x", "tree/a b": "space", "tree/\xff\xfe": "not UTF-8", "tree/new\nline": "y", "tree/ä": "z", "tree/..x": "w",
		"tree/-dash": "", "tree/aa/x": "1", "tree/aa.x": "2", "tree/aa-x": "3", "tree/deep/er/and/deeper": "-> ../x", "tree/none": "/",
		"tree/" + strings.Repeat("n", 255): "long name", "tree/large": string(castoretest.Pattern(1<<20, 2)),
	})
	if err := os.Mkdir(filepath.Join(dir, "executable-directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, e := range mustReadDir(t, dir) {
		path := filepath.Join(dir, e.Name())
		got := strings.TrimSpace(must(t, "import", path))
		if want := nix(t, root, "nix-store", "--add", path); len(want) != 1 || got != want[0] {
			t.Errorf("%s: %s, nix-store has %s", e.Name(), got, want)
		}
		info := mustJSON[statJSON](t, "stat", "--json", got).Info
		if want := nix(t, root, "nix-store", "-q", "--hash", got); info.NarHash != want[0] || info.CA != "fixed:r:"+want[0] {
			t.Errorf("%s: %+v, nix-store has the hash %s", e.Name(), info, want[0])
		}
	}
	fsck(t)
}

func mustReadDir(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	return list
}

func TestImport(t *testing.T) {
	newStore(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"a/x": "1", "b": "2", "a name": "3"})
	t.Chdir(dir)
	lines := strings.Fields(must(t, "import", "a", "./b", dir+"/a/"))
	if len(lines) != 3 || lines[0] != lines[2] || !strings.HasSuffix(lines[0], "-a") || !strings.HasSuffix(lines[1], "-b") {
		t.Errorf("%q", lines)
	}
	named := strings.TrimSpace(must(t, "import", "--name", "a-name", "a name"))
	if !strings.HasSuffix(named, "-a-name") || must(t, "cat", named) != "3" {
		t.Errorf("%s", named)
	}
	if infos := mustJSON[[]pathJSON](t, "import", "--json", "a", "b"); len(infos) != 2 || infos[0].Path != lines[0] || infos[1].Kind != "file" {
		t.Errorf("%+v", infos)
	}
	if paths := fsck(t); len(paths) != 3 {
		t.Errorf("the store holds %q", paths)
	}
	t.Chdir("a")
	if got := strings.TrimSpace(must(t, "import", ".")); got != lines[0] {
		t.Errorf("import . gives %s, want %s", got, lines[0])
	}
}

func TestImportRefuses(t *testing.T) {
	store := newStore(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"a name": "", "good": "", strings.Repeat("n", 212): ""})
	for _, tt := range []struct {
		code int
		want []string
		args []string
	}{
		{1, []string{dir + "/nothing", "no such file"}, []string{dir + "/nothing"}},
		{1, []string{"a name", "--name"}, []string{dir + "/good", dir + "/a name"}}, // before good is read
		{1, []string{"longer than 211", "--name"}, []string{dir + "/" + strings.Repeat("n", 212)}},
		{1, []string{`--name "x y"`}, []string{"--name", "x y", dir + "/good"}},
		{1, []string{"--name"}, []string{"/"}},
		{1, []string{"/dev/null", "character device"}, []string{"/dev/null"}},
		{1, []string{"ftp", "file:///DIR"}, []string{"--blob-service-addr", "ftp://x", dir + "/good"}},
		{2, []string{"--name"}, []string{"--name", "x", dir + "/good", dir + "/good"}},
		{2, []string{"PATH is missing"}, nil},
	} {
		refused(t, tt.code, tt.want, append([]string{"import"}, tt.args...)...)
	}
	if list := must(t, "list"); list != "" {
		t.Errorf("the store holds %q", list)
	}
	left, _ := filepath.Glob(store + "/blobs/??/*")
	if len(left) != 0 {
		t.Errorf("blobs were left: %q", left)
	}
}

// TestImportKeeps holds that what is known of a path outlives its import.
func TestImportKeeps(t *testing.T) {
	dir := newStore(t)
	src := t.TempDir()
	write(t, src, map[string]string{"x": "contents"})
	path := strings.TrimSpace(must(t, "import", src+"/x"))
	p, _, err := storepath.ParseAbsolute(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	s, err := storeaddr.Open(ctx, storeaddr.Addresses{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	info, err := s.PathInfos.Get(ctx, p.Hash)
	if err != nil {
		t.Fatal(err)
	}
	known := *info
	known.References = []storepath.StorePath{p}
	known.Signatures = []pathinfo.Signature{{Name: "key-1"}}
	if _, err := s.PathInfos.Put(ctx, &known); err != nil {
		t.Fatal(err)
	}
	if again := strings.TrimSpace(must(t, "import", src+"/x")); again != path {
		t.Errorf("%s, before %s", again, path)
	}
	if got := mustJSON[statJSON](t, "stat", "--json", path).Info; len(got.References) != 1 || len(got.Signatures) != 1 {
		t.Errorf("%+v", got)
	}
	// A wrong one does not.
	known.Node.Executable = true
	if _, err := s.PathInfos.Put(ctx, &known); err != nil {
		t.Fatal(err)
	}
	must(t, "import", src+"/x")
	if got := mustJSON[statJSON](t, "stat", "--json", path); got.Executable {
		t.Errorf("%+v", got)
	}
}

// manyFiles makes a tree that takes a moment to import.
func manyFiles(t *testing.T, seed int) string {
	dir := filepath.Join(t.TempDir(), fmt.Sprint("tree", seed))
	files := map[string]string{"large": string(castoretest.Pattern(3<<20, uint64(seed)))}
	for i := range 150 {
		files[fmt.Sprintf("%d/%d", i%20, i)] = fmt.Sprint("file ", i, " of ", seed)
	}
	write(t, dir, files)
	return dir
}

// TestImportKilled kills real imports at any moment: what was imported before
// stays complete, and so does what they printed.
//
// The store is in memory where that is possible: a killed process, unlike a
// power loss, loses nothing that it has written.
func TestImportKilled(t *testing.T) {
	newStore(t)
	if dir, err := os.MkdirTemp("/dev/shm", "storeboot-test"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		t.Setenv("STOREBOOT_STORE", dir)
	}
	want := map[string]bool{strings.TrimSpace(must(t, "import", manyFiles(t, 0))): true}
	begin := time.Now()
	if out, err := process("import", manyFiles(t, 1000)).Output(); err != nil {
		t.Fatal(err)
	} else {
		want[strings.TrimSpace(string(out))] = true
	}
	took := time.Since(begin)
	killed, rounds := 0, 30
	if testing.Short() {
		rounds = 8
	}
	for i := range rounds {
		cmd := process("import", manyFiles(t, 2*i+1), manyFiles(t, 2*i+2))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(rand.N(took), func() { _ = cmd.Process.Kill() })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			want[lines.Text()] = true
		}
		if err := cmd.Wait(); err != nil {
			killed++
		}
		timer.Stop()
	}
	if killed == 0 {
		t.Error("no import was killed before its end")
	}
	got := map[string]bool{}
	for _, p := range fsck(t) {
		got[p] = true
	}
	for p := range want {
		if !got[p] {
			t.Errorf("%s was imported and is not in the store", p)
		}
	}
	t.Logf("%d of %d imports were killed; the store holds %d paths", killed, rounds, len(got))
	// The next import works, and nothing of the dead processes is left.
	must(t, "import", manyFiles(t, 2000))
	if left, err := os.ReadDir(os.Getenv("STOREBOOT_STORE") + "/blobs/.staging"); err != nil || len(left) != 0 {
		t.Errorf("%d staging directories are left, %v", len(left), err)
	}
}

// TestImportTogether has several processes import the same and other trees.
func TestImportTogether(t *testing.T) {
	newStore(t)
	shared := manyFiles(t, 0)
	var wg sync.WaitGroup
	var mu sync.Mutex
	printed := map[string]bool{}
	for i := range 4 {
		own := manyFiles(t, 1+i/2)
		wg.Go(func() {
			out, err := process("import", shared, own).Output()
			if err != nil {
				t.Errorf("import: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, line := range strings.Fields(string(out)) {
				printed[line] = true
			}
		})
	}
	wg.Wait()
	paths := fsck(t)
	if len(printed) != 3 || len(paths) != 3 {
		t.Errorf("%d paths were printed, the store holds %q", len(printed), paths)
	}
}

// TestNoProgress holds that nothing but errors goes to standard error if that
// is no terminal.
func TestNoProgress(t *testing.T) {
	newStore(t)
	cmd := process("import", manyFiles(t, 1))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(stderr)
	if err := cmd.Wait(); err != nil || len(text) != 0 {
		t.Errorf("%v: %q", err, text)
	}
}
