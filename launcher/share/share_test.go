package share

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]Share{
		"home=" + dir:                {"home", dir, "/mnt/home", false},
		"home=" + dir + ",rw":        {"home", dir, "/mnt/home", true},
		"h=" + dir + ",at=/srv/x,rw": {"h", dir, "/srv/x", true},
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, part := range map[string]string{
		"home": "TAG=PATH", "=x": "TAG=PATH", "home=": "TAG=PATH", "a/b=" + dir: "plain name",
		strings.Repeat("t", 37) + "=" + dir: "36 are possible",
		"home=" + dir + ",at=x":             "at= and a directory",
		"home=" + dir + ",at=/":             "at= and a directory",
		"home=" + dir + ",rx":               "want rw",
		"home=" + dir + "/none":             "no such file",
		"home=/etc/passwd":                  "no directory",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v, want %q", text, err, part)
		}
	}
}

func TestFindDaemon(t *testing.T) {
	write := func(says string) string {
		file := filepath.Join(t.TempDir(), "virtiofsd")
		if err := os.WriteFile(file, []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return file
	}
	rust, ours := write("virtiofsd 1.13.2"), write("virtiofsd devel-123")
	d, err := FindDaemon(t.Context(), rust)
	if err != nil || d.Old || d.Path != rust {
		t.Errorf("Rust's: %+v, %v", d, err)
	}
	if c := d.Command(Share{Tag: "a", Path: "/srv"}, "/s", "/self").String(); !strings.Contains(c, "--readonly") || !strings.Contains(c, "--shared-dir /srv") {
		t.Errorf("command %s", c)
	}
	if _, err := FindDaemon(t.Context(), ours); err == nil || !strings.Contains(err.Error(), "no virtiofsd that serves directories") {
		t.Errorf("ours: %v", err)
	}
	old := Daemon{Path: "/c", Old: true}
	if c := old.Command(Share{Tag: "a", Path: "/srv"}, "/s", "/self"); c.Path != "/self" || c.Args[0] != ReadOnlyCommand {
		t.Errorf("read-only by QEMU's: %s", c)
	}
	if c := old.Command(Share{Tag: "a", Path: "/srv", Writable: true}, "/s", "/self"); c.Path != "/c" {
		t.Errorf("writable by QEMU's: %s", c)
	}
	if err := old.Check(Share{Path: "/a,b"}); err == nil {
		t.Error("a comma passes")
	}
}
