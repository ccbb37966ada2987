package session

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

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
	a, err := makeDir(base)
	if err != nil {
		t.Fatal(err)
	}
	b, err := makeDir(base)
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
		if err := d.remove(); err != nil {
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
				d, err := makeDir(base)
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.WriteFile(d.file("x"), nil, 0o600); err != nil {
					t.Error(err)
				}
				if err := d.remove(); err != nil {
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
		if _, err := makeDir(base); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", base, err, want)
		}
	}
	if entries, err := os.ReadDir(long); err != nil || len(entries) != 0 {
		t.Errorf("%d left, %v", len(entries), err)
	}
}
