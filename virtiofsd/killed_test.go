package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/castore/fileblobs"
)

// kills is how many processes TestKilled kills before their end, of each of
// four kinds: 200 in all.
const kills = 50

// killer starts processes and kills them.
type killer struct {
	t      *testing.T
	killed int
}

// run starts the command, kills it at a random moment within the time that it
// takes or shortly after, and returns the lines that it printed.
func (k *killer) run(took time.Duration, args ...string) []string {
	k.t.Helper()
	cmd := process(args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	timer := time.AfterFunc(rand.N(took+took/10), func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	var lines []string
	for s := bufio.NewScanner(out); s.Scan(); {
		lines = append(lines, s.Text())
	}
	if err := cmd.Wait(); err != nil {
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != -1 {
			k.t.Fatalf("%q ended by itself: %v", args, err)
		}
		k.killed++
	}
	return lines
}

// more says whether there is more to do: n processes are to be killed before
// their end, which those that are started before may have reached.
func (k *killer) more(n, started int) bool {
	if k.killed < n && started == 10*n {
		k.t.Errorf("only %d of %d processes were killed before their end", k.killed, started)
	}
	return k.killed < n && started < 10*n
}

// time runs the command to its end and returns how long that takes.
func (k *killer) time(args ...string) time.Duration {
	k.t.Helper()
	begin := time.Now()
	if out, err := process(args...).CombinedOutput(); err != nil {
		k.t.Fatalf("%q: %v: %s", args, err, out)
	}
	return time.Since(begin)
}

// smallTree makes a tree that no other seed makes, with a part that all have.
func smallTree(t testing.TB, seed int) string {
	dir := filepath.Join(t.TempDir(), fmt.Sprint("tree", seed))
	files := map[string]string{"large": string(castoretest.Pattern(1<<20, uint64(seed))), "shared/large": string(castoretest.Pattern(1<<19, 7))}
	for i := range 40 {
		files[fmt.Sprintf("%d/%d", i%8, i)] = fmt.Sprint("file ", i, " of ", seed)
		files[fmt.Sprintf("shared/%d/%d", i%8, i)] = fmt.Sprint("file ", i, " of all")
	}
	write(t, dir, files)
	return dir
}

// holds fails unless the store is whole and has paths.
func holds(t *testing.T, store string, paths []string) {
	t.Helper()
	code, stdout, stderr := virtiofsd("verify", "--store", store)
	if code != 0 {
		t.Fatalf("verify: exit %d: %s%s", code, stdout, stderr)
	}
	list := strings.Fields(must(t, "list", "--store", store))
	for _, p := range paths {
		if !slices.Contains(list, p) {
			t.Fatalf("%s was reported as stored and is not there", p)
		}
	}
}

// TestKilled kills real imports, copies, collections, and daemons that get gRPC
// writes, at random moments: what was reported as stored, or is a root, stays;
// the store is whole; a second run does the rest.
//
// The stores are in memory where that is possible: a killed process, unlike a
// power loss, loses nothing that it has written.
func TestKilled(t *testing.T) {
	newStore(t)
	dir, err := os.MkdirTemp("/dev/shm", "storeboot-test")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	store := dir + "/store"
	t.Setenv("STOREBOOT_STORE", store)
	n := kills
	if testing.Short() {
		n = 2 // ./check runs all of it without the race detector
	}
	t.Run("import", func(t *testing.T) { killImports(t, n, store) })
	t.Run("copy", func(t *testing.T) { killCopies(t, n, dir+"/copy") })
	t.Run("daemon", func(t *testing.T) { killDaemons(t, n, dir) })
	t.Run("gc", func(t *testing.T) { killCollections(t, n, store) })
}

func killImports(t *testing.T, n int, store string) {
	k := &killer{t: t}
	var reported []string
	took := k.time("import", smallTree(t, 0), smallTree(t, 1))
	for i := 0; k.more(n, i); i++ {
		trees := []string{smallTree(t, 2*i+2), smallTree(t, 2*i+3)}
		reported = append(reported, k.run(took, append([]string{"import"}, trees...)...)...)
		holds(t, store, reported)
		if i%5 == 0 {
			reported = append(reported, strings.Fields(must(t, append([]string{"import"}, trees...)...))...)
		}
		if i%10 == 9 { // else each verify takes longer than the one before
			must(t, append(roots(reported[len(reported)-2:]), "--json")...)
			reported = reported[len(reported)-2:]
		}
	}
}

// roots is a collection that keeps these paths alone.
func roots(paths []string) []string {
	args := []string{"gc", "--grace", "0"}
	for _, p := range paths {
		args = append(args, "--root", p)
	}
	return args
}

func killCopies(t *testing.T, n int, target string) {
	k := &killer{t: t}
	a := strings.TrimSpace(must(t, "import", smallTree(t, 100_000)))
	b := strings.TrimSpace(must(t, "import", smallTree(t, 100_001)))
	c := strings.TrimSpace(must(t, "import", smallTree(t, 100_002)))
	refer(t, c, b)
	refer(t, b, a)
	order := []string{a, b, c}
	took := k.time("copy", "--to-store", target, c)
	for i := 0; k.more(n, i); i++ {
		if err := os.RemoveAll(target); err != nil {
			t.Fatal(err)
		}
		lines := k.run(took, "copy", "--to-store", target, c)
		holds(t, target, lines)
		// Whatever is there has its references.
		list := strings.Fields(must(t, "list", "--store", target))
		for i, p := range order {
			if slices.Contains(list, p) != (i < len(list)) {
				t.Fatalf("the copy holds %q", list)
			}
		}
		must(t, "copy", "--to-store", target, c)
		holds(t, target, order)
	}
}

func killCollections(t *testing.T, n int, store string) {
	k := &killer{t: t}
	kept := strings.TrimSpace(must(t, "import", smallTree(t, 200_000)))
	garbage := func(i int) { must(t, "import", smallTree(t, 200_001+2*i), smallTree(t, 200_002+2*i)) }
	must(t, roots([]string{kept})...) // what other tests left, which takes longer
	garbage(0)
	took := k.time(roots([]string{kept})...)
	for i := 0; k.more(n, i); i++ {
		garbage(i + 1)
		k.run(took, roots([]string{kept})...)
		holds(t, store, []string{kept})
		if i%5 == 0 {
			must(t, roots([]string{kept})...)
			if list := stored(t); len(list) != 1 {
				t.Fatalf("a second collection leaves %q", list)
			}
		}
	}
	must(t, roots([]string{kept})...)
	got := mustJSON[gcJSON](t, append(roots([]string{kept}), "--json")...)
	if got.Directories+got.Blobs+len(got.Removed) != 0 {
		t.Errorf("the last collection left %+v", got)
	}
	blobs, err := fileblobs.Open(store + "/blobs")
	if err != nil {
		t.Fatal(err)
	}
	defer blobs.Close()
	left := 0
	for _, err := range blobs.(castore.Sweeper).Items(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		left++
	}
	if left != got.KeptBlobs {
		t.Errorf("%d blobs are left, %d are needed", left, got.KeptBlobs)
	}
}
