package proto

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGeneratedIsFresh runs the generator and compares.
func TestGeneratedIsFresh(t *testing.T) {
	out := t.TempDir()
	// The generator may have to be downloaded. Without network that is no
	// fault of the generated code, except where the tests have to be complete.
	if b, err := exec.Command("go", "-C", "generate", "mod", "download").CombinedOutput(); err != nil && os.Getenv("CI") == "" {
		t.Skipf("SKIP: the generator's modules cannot be had: %v: %s", err, b)
	}
	if b, err := exec.Command("go", "-C", "generate", "run", ".", "..", out).CombinedOutput(); err != nil {
		t.Fatalf("generate: %v\n%s", err, b)
	}
	made, committed := goFiles(t, out), goFiles(t, ".")
	if len(made) < 10 {
		t.Fatalf("only %d files were generated", len(made))
	}
	for name, want := range made {
		if got, ok := committed[name]; !ok || !bytes.Equal(got, want) {
			t.Errorf("%s is stale: run go generate ./virtiofsd/proto", name)
		}
	}
	for name := range committed {
		if _, ok := made[name]; !ok {
			t.Errorf("%s is made of no .proto file: remove it", name)
		}
	}
}

// goFiles are the generated files below dir, by name.
func goFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".pb.go") {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
