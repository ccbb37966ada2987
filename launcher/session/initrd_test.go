package session

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storeboot/internal/bootproto"
	"storeboot/internal/newc"
)

// TestAppendRunSpec appends to initrds of all lengths, and reads what the
// kernel would.
func TestAppendRunSpec(t *testing.T) {
	spec := &bootproto.RunSpec{Version: bootproto.SpecVersion, Argv: []string{"/nix/store/x/bin/x", "a b", "", "\n\"'"}, Env: []string{"K=ü"}}
	for padding := range 5 {
		var first bytes.Buffer
		w := newc.NewWriter(&first)
		if err := w.WriteHeader(&newc.Header{Name: "init", Mode: newc.TypeRegular | 0o755, NLink: 1, Ino: 1, Size: 4}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("init")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		first.Write(make([]byte, padding))
		dir := t.TempDir()
		src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
		if err := os.WriteFile(src, first.Bytes(), 0o444); err != nil {
			t.Fatal(err)
		}
		if err := copyInitrd(dst, src); err != nil {
			t.Fatal(err)
		}
		if err := appendRunSpec(dst, spec); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(src); err != nil || !bytes.Equal(got, first.Bytes()) {
			t.Errorf("the user's initrd has changed: %v", err)
		}
		all, err := os.ReadFile(dst)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for r := newc.NewReader(bytes.NewReader(all)); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, h.Name)
			if "/"+h.Name != bootproto.RunSpecPath {
				continue
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := bootproto.ParseRunSpec(data)
			if err != nil || strings.Join(got.Argv, "|") != strings.Join(spec.Argv, "|") || got.Env[0] != spec.Env[0] {
				t.Errorf("read back %+v, %v", got, err)
			}
		}
		if got := strings.Join(names, " "); got != "init etc etc/storeboot etc/storeboot/run.json" {
			t.Errorf("padding %d: entries %s", padding, got)
		}
	}
	if err := appendRunSpec("/nonexistent/initrd", spec); err == nil {
		t.Error("appends to nothing")
	}
	if err := appendRunSpec(filepath.Join(t.TempDir(), "x"), &bootproto.RunSpec{}); err == nil || !strings.Contains(err.Error(), "run specification") {
		t.Errorf("an empty specification: %v", err)
	}
	if err := copyInitrd(filepath.Join(t.TempDir(), "x"), t.TempDir()); err == nil {
		t.Error("copies a directory")
	}
}
