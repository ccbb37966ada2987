package bucket

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"storeboot/virtiofsd/staging"
)

// files are the files below dir, relative to it.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestNames holds that a file gets its name at a flush and not before, and that
// what was not flushed leaves nothing.
func TestNames(t *testing.T) {
	for _, n := range []int{1, staging.FewSyncs, staging.FewSyncs + 1, 40} {
		dir := t.TempDir()
		b := open(t, "file://"+dir)
		var want []string
		for i := range n {
			key := fmt.Sprintf("x/%02d/key", i)
			want = append(want, key)
			if err := b.Put(t.Context(), key, []byte(key)); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range files(t, dir) {
			if !strings.HasPrefix(f, staging.Name) {
				t.Errorf("%s has its name before the flush", f)
			}
		}
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := files(t, dir); !slices.Equal(got, want) {
			t.Errorf("after the flush: %v, want %v", got, want)
		}
		if err := b.Put(t.Context(), "lost", nil); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if got := files(t, dir); !slices.Equal(got, want) {
			t.Errorf("after Close: %v, want %v", got, want)
		}
		if err := b.Put(t.Context(), "late", nil); err == nil {
			t.Error("Put after Close succeeds")
		}
	}
}

// TestFailedFlush holds that a bucket whose write failed takes nothing more.
func TestFailedFlush(t *testing.T) {
	dir := t.TempDir()
	b := open(t, "file://"+dir)
	if err := os.WriteFile(dir+"/x", nil, 0o644); err != nil { // where a directory has to be
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "x/key", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := b.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("Flush: %v", err)
	}
	if err := b.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "earlier") {
		t.Errorf("second Flush: %v", err)
	}
	if err := b.Put(t.Context(), "y", nil); err == nil || !strings.Contains(err.Error(), "earlier") {
		t.Errorf("Put: %v", err)
	}
}

const killedDir = "STOREBOOT_TEST_KILLED_DIR"

// TestKilled holds that what a killed process flushed is there, whole, what it
// did not flush is not, and that its staging directory is removed.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(killedDir); dir != "" {
		b := open(t, "file://"+dir)
		for i := 0; ; i++ {
			if err := b.Put(context.Background(), fmt.Sprint("k/", i), []byte(strings.Repeat("x", 100_000))); err != nil {
				t.Fatal(err)
			}
			if i%10 == 9 {
				if err := b.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
				fmt.Println("flushed", i)
			}
		}
	}
	dir := t.TempDir()
	for round := range 3 {
		c := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		c.Env = append(os.Environ(), killedDir+"="+dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		flushed := -1
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, err := fmt.Sscanf(lines.Text(), "flushed %d", &flushed); err == nil && flushed >= 19+10*round {
				break
			}
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait() // it was killed
		if flushed < 0 {
			t.Fatal("the process flushed nothing")
		}
		b := open(t, "file://"+dir)
		for i := range flushed + 1 {
			if data, err := b.Get(t.Context(), fmt.Sprint("k/", i), 1<<20); err != nil || len(data) != 100_000 {
				t.Errorf("object %d: %d bytes, %v", i, len(data), err)
			}
		}
		if err := b.Put(t.Context(), fmt.Sprint("round/", round), nil); err != nil {
			t.Fatal(err)
		}
		if dirs, err := os.ReadDir(filepath.Join(dir, staging.Name)); err != nil || len(dirs) != 1 {
			t.Errorf("staging directories %v, %v", dirs, err)
		}
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		for _, f := range files(t, dir) {
			if info, err := os.Stat(filepath.Join(dir, f)); err != nil || strings.HasPrefix(f, "k/") && info.Size() != 100_000 {
				t.Errorf("%s: %v, %v", f, info, err)
			}
		}
	}
}
