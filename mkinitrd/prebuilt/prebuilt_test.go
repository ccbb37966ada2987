package prebuilt

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestPack packs a program as embed does, and unpacks it.
func TestPack(t *testing.T) {
	dir := t.TempDir()
	program := bytes.Repeat([]byte("program"), 1000)
	file := filepath.Join(dir, "in")
	if err := os.WriteFile(file, program, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Pack(dir, "amd64", map[string]string{Init: file}, []string{"ls", "cat"}); err != nil {
		t.Fatal(err)
	}
	packed, err := os.ReadFile(filepath.Join(dir, "amd64", "init.zst"))
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	if err := Unpack(packed, out); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if st, statErr := os.Stat(out); err != nil || statErr != nil || !bytes.Equal(got, program) || st.Mode()&0o111 == 0 {
		t.Errorf("unpacked %d bytes, %v, %v", len(got), err, statErr)
	}
	if err := Unpack(packed[:len(packed)/2], out); err == nil {
		t.Error("half a program was unpacked")
	}
	if _, err := Program("none", Init); !errors.Is(err, ErrNone) {
		t.Errorf("an architecture that nothing is carried for: %v", err)
	}
}
