package rundir

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// shortDir is a temporary directory whose path leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "base")
}

func TestBase(t *testing.T) {
	long := "/run/" + strings.Repeat("x", 100)
	tests := []struct{ runtime, want string }{
		{"/run/user/7", "/run/user/7/storeboot"},
		{"", "/tmp/storeboot-7"},
		{"relative", "/tmp/storeboot-7"},
		{long, "/tmp/storeboot-7"},
	}
	for _, tt := range tests {
		if got := Base(tt.runtime, "/tmp", 7); got != tt.want {
			t.Errorf("Base(%q) = %s, want %s", tt.runtime, got, tt.want)
		}
	}
}

func TestDir(t *testing.T) {
	base := shortDir(t)
	if err := os.MkdirAll(filepath.Join(base, "vm-stale", "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(base, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vm-stale/sub/file", "vm-file", "other"} {
		if err := os.WriteFile(filepath.Join(base, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(base, "vm-link")); err != nil {
		t.Fatal(err)
	}
	a, err := Make(base, "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Make(base, "")
	if err != nil {
		t.Fatal(err)
	}
	if a.Path == b.Path || filepath.Dir(a.Path) != base {
		t.Errorf("directories %s and %s", a.Path, b.Path)
	}
	if st, err := os.Stat(a.Path); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v: another session's directory has gone or is open", st, err)
	}
	for name, want := range map[string]bool{"vm-stale": false, "vm-file": true, "other": true, "vm-link": true} {
		if _, err := os.Lstat(filepath.Join(base, name)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", name, err, want)
		}
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
	for _, d := range []Dir{a, b} {
		if err := d.Remove(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(d.Path); !os.IsNotExist(err) {
			t.Errorf("%s: %v", d.Path, err)
		}
	}
}

// TestDirTogether makes directories at the same time: no session may take
// another's for a stale one.
func TestDirTogether(t *testing.T) {
	base := shortDir(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				d, err := Make(base, "")
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.WriteFile(d.File("x"), nil, 0o600); err != nil {
					t.Error(err)
				}
				if err := d.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if entries, err := os.ReadDir(base); err != nil || len(entries) != 0 {
		t.Errorf("%d left, %v", len(entries), err)
	}
}

func TestDirRefused(t *testing.T) {
	open := shortDir(t)
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	link := open + "-link"
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(filepath.Dir(open), strings.Repeat("l", 100))
	for base, want := range map[string]string{open: "open to other users", link: "not a directory", long: "107 are possible"} {
		if _, err := Make(base, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", base, err, want)
		}
	}
	if entries, err := os.ReadDir(long); err != nil || len(entries) != 0 {
		t.Errorf("%d left, %v", len(entries), err)
	}
}

// TestList holds what is listed, found and kept of VMs that run, have ended and
// have died.
func TestList(t *testing.T) {
	base := shortDir(t)
	if list, died, err := List(base); err != nil || len(list)+len(died) > 0 {
		t.Errorf("of nothing: %v, %v, %v", list, died, err)
	}
	start := time.Now()
	make1 := func(name string, after time.Duration) Dir {
		d, err := Make(base, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Write(&State{VM: name, Started: start.Add(after)}); err != nil {
			t.Fatal(err)
		}
		return d
	}
	runs, ended, dies := make1("runs", 2), make1("ended", 1), make1("dies", 3)
	if _, err := Make(base, "runs"); err == nil || !strings.Contains(err.Error(), "launcher stop runs") {
		t.Errorf("a second of that name: %v", err)
	}
	at := start
	if err := ended.Write(&State{VM: "ended", Started: start.Add(1), Ended: &at, Status: 3}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ended.File("program.log"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ended.File("big"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ended.End(StateFile, "program.log"); err != nil {
		t.Fatal(err)
	}
	_ = dies.lock.Close()
	list, died, err := List(base)
	if err != nil || len(list) != 2 || list[0].Name() != "ended" || list[1].Name() != "runs" || !slices.Equal(died, []string{"dies"}) {
		t.Fatalf("%v, %v, %v", list, died, err)
	}
	if list[0].Status != 3 || list[0].Ended == nil {
		t.Errorf("ended: %+v", list[0])
	}
	if _, err := os.Stat(ended.File("big")); err == nil {
		t.Error("the end keeps everything")
	}
	if e, err := Find(base, "run"); err != nil || e.Name() != "runs" {
		t.Errorf("found %v, %v", e, err)
	}
	for _, name := range []string{"", "x", "dies"} {
		if _, err := Find(base, name); err == nil {
			t.Errorf("%q was found", name)
		}
	}
	if err := RemoveEnded(list[1]); err == nil {
		t.Error("a VM that runs was removed")
	}
	if err := RemoveEnded(list[0]); err != nil {
		t.Error(err)
	}
	if err := runs.Remove(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{".", "a/b", "", "-x", "ü", strings.Repeat("x", 33)} {
		if CheckName(name) == nil {
			t.Errorf("%q passes", name)
		}
	}
}
