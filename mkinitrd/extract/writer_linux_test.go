package extract

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"storeboot/internal/newc"
)

func header(mode uint32, data string) *newc.Header {
	return &newc.Header{Mode: mode, Size: int64(len(data)), MTime: 1000, NLink: 1, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
}

// TestStaysInside writes through every way out of the directory that an image
// can name.
func TestStaysInside(t *testing.T) {
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "dir")
	w, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	add := func(name string, mode uint32, data string) {
		t.Helper()
		// Some are refused by the system, which is as well.
		if err := w.Add(name, header(mode, data), strings.NewReader(data)); err != nil {
			t.Logf("%s: %v", name, err)
		}
	}
	link, file := uint32(newc.TypeSymlink|0o777), uint32(newc.TypeRegular|0o644)
	add("abs", link, outside)
	add("abs/secret", file, "changed")
	add("up", link, "../outside")
	add("up/secret", file, "changed")
	add("up/new", file, "new")
	add("far", link, "../../../../../../../../../../"+outside)
	add("far/secret", file, "changed")
	add("direct", link, secret)
	add("direct", file, "replaces the link")
	add("e", newc.TypeDirectory|0o777, "")
	add("e", link, outside)
	add("d", link, outside)
	add("d", newc.TypeDirectory|0o777, "")
	add("d/x", file, "x")
	add("proc", link, "/proc/self/root")
	add("proc/x", file, "x")
	if err := w.Link("far/secret", "h", header(file, "changed"), strings.NewReader("changed")); err != nil {
		t.Logf("link: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(secret); err != nil || string(got) != "untouched" {
		t.Errorf("the file outside is %q, %v", got, err)
	}
	if list, err := os.ReadDir(outside); err != nil || len(list) != 1 {
		t.Errorf("outside has %v, %v", list, err)
	}
	if st, err := os.Stat(outside); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("the directory outside is %v, %v", st.Mode(), err)
	}
	for name, want := range map[string]string{"direct": "replaces the link", "d/x": "x"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
}

func TestKinds(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	w, err := Open(dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	add := func(name string, h *newc.Header, data string) {
		t.Helper()
		if err := w.Add(name, h, strings.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	add("", header(newc.TypeDirectory|0o700, ""), "")
	add("closed", header(newc.TypeDirectory|0o555, ""), "")
	add("closed/file", header(newc.TypeRegular|0o640, "data"), "data")
	add("no/parent/file", header(newc.TypeRegular|0o600, ""), "")
	add("fifo", header(newc.TypeFIFO|0o620, ""), "")
	add("link", header(newc.TypeSymlink|0o777, "x"), "nowhere")
	add("twice", header(newc.TypeDirectory|0o700, ""), "")
	add("twice", header(newc.TypeRegular|0o600, "f"), "f")
	dev := header(newc.TypeChar|0o666, "")
	dev.RDevMajor, dev.RDevMinor = 1, 3
	add("null", dev, "")
	add("h1", header(newc.TypeRegular|0o600, ""), "")
	if err := w.Link("h1", "sub/h2", header(newc.TypeRegular|0o600, "late"), strings.NewReader("late")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{
		"closed": fs.ModeDir | 0o555, "closed/file": 0o640, "no/parent/file": 0o600, "fifo": fs.ModeNamedPipe | 0o620,
		"twice": 0o600, "sub/h2": 0o600,
	} {
		st, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || st.Mode() != want || name != "sub/h2" && st.ModTime().Unix() != 1000 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "h1")); err != nil || string(got) != "late" {
		t.Errorf("h1 is %q, %v", got, err)
	}
	if target, err := os.Readlink(filepath.Join(dir, "link")); err != nil || target != "nowhere" {
		t.Errorf("link to %q, %v", target, err)
	}
	st, err := os.Lstat(filepath.Join(dir, "null"))
	switch {
	case w.Skipped == 1:
		if err == nil || !strings.Contains(log.String(), "null") {
			t.Errorf("skipped: %v, log %s", st, log.String())
		}
	case err != nil || st.Sys().(*syscall.Stat_t).Rdev != 1<<8|3:
		t.Errorf("null: %v, %v", st, err)
	}
}
