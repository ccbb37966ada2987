package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/zeebo/blake3"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/storeaddr"
)

// asCommand, when it is set, makes the test program the command itself, so
// that tests can kill it or run several at once.
const asCommand = "STOREBOOT_TEST_VIRTIOFSD"

// programDir names the directory that quickProgram builds in.
const programDir = "STOREBOOT_TEST_PROGRAM_DIR"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	dir, err := os.MkdirTemp("", "storeboot-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv(programDir, dir)
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// quickProgram is what processes run: the test program or, since a process
// takes many times as long to start and to end under the race detector, the
// command built without it. Both are the command when asCommand is set.
var quickProgram = sync.OnceValues(func() (string, error) {
	if !raceDetector {
		return os.Args[0], nil
	}
	program := filepath.Join(os.Getenv(programDir), "virtiofsd")
	cmd := exec.Command("go", "build", "-o", program, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build virtiofsd: %w: %s", err, out)
	}
	return program, nil
})

// newStore makes the test's own empty store the default one.
func newStore(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	t.Setenv("STOREBOOT_STORE", dir)
	for _, name := range []string{"BLOB_SERVICE_ADDR", "DIRECTORY_SERVICE_ADDR", "PATH_INFO_SERVICE_ADDR"} {
		t.Setenv(name, "")
	}
	return dir
}

// process is the command in a process of its own.
func process(args ...string) *exec.Cmd {
	program, err := quickProgram()
	if err != nil {
		panic(err) // no test that needs it can go on
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	return cmd
}

// startLogged starts a process that is killed with the test, and shows what it
// said if the test has failed.
func startLogged(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // unless it has ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%q: %s", cmd.Args[1:], stderr.String())
		}
	})
}

// virtiofsd runs the command.
func virtiofsd(args ...string) (code int, stdout, stderr string) {
	var o, e bytes.Buffer
	code = cli.Run(context.Background(), newCommand(), args, cli.Streams{In: strings.NewReader(""), Out: &o, Err: &e})
	return code, o.String(), e.String()
}

// must runs the command, which has to succeed, and returns its output.
func must(t testing.TB, args ...string) string {
	t.Helper()
	code, stdout, stderr := virtiofsd(args...)
	if code != 0 || stderr != "" {
		t.Fatalf("virtiofsd %q: exit %d: %s", args, code, stderr)
	}
	return stdout
}

// mustJSON decodes the command's output.
func mustJSON[T any](t testing.TB, args ...string) T {
	t.Helper()
	var v T
	out := must(t, args...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("virtiofsd %q: %v: %s", args, err, out)
	}
	return v
}

// refused runs the command, which has to fail with one line that has all of
// want, and no output.
func refused(t *testing.T, code int, want []string, args ...string) {
	t.Helper()
	got, stdout, stderr := virtiofsd(args...)
	if got != code || stdout != "" {
		t.Errorf("virtiofsd %q: exit %d, want %d, output %q", args, got, code, stdout)
	}
	line, rest, _ := strings.Cut(stderr, "\n")
	for _, w := range want {
		if !strings.Contains(line, w) {
			t.Errorf("virtiofsd %q: %q lacks %q", args, line, w)
		}
	}
	if rest != "" && code != cli.ExitUsage {
		t.Errorf("virtiofsd %q: more than one line: %s", args, stderr)
	}
}

// nix runs a program of Nix on the store below root and returns the lines of
// its output.
func nix(t testing.TB, root, program string, args ...string) []string {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("SKIP: %s is missing (apt-get install nix-bin)", program)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "NIX_REMOTE=local?root="+root, "NIX_CONFIG=build-users-group =\nsandbox = false\nsubstitute = false")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", program, args, err, stderr.String())
	}
	return strings.Fields(string(out))
}

// write makes files below dir; a name that ends in * is an executable, contents
// "-> X" are a symlink to X, "/" an empty directory.
func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		name, executable := strings.CutSuffix(name, "*")
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			if target, ok := strings.CutPrefix(content, "-> "); ok {
				err = os.Symlink(target, path)
			} else if content == "/" {
				err = os.MkdirAll(path, 0o755)
			} else if executable {
				err = os.WriteFile(path, []byte(content), 0o755)
			} else {
				err = os.WriteFile(path, []byte(content), 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// fsck reads the whole store: every path info, all directories below and every
// blob, with its digest. It returns the store paths.
func fsck(t testing.TB) []string {
	t.Helper()
	ctx := context.Background()
	store, err := storeaddr.Open(ctx, storeaddr.Addresses{Dir: os.Getenv("STOREBOOT_STORE")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	blob := func(path string, n castore.Node) {
		b, err := castoretest.GetBlob(store.Blobs, n.Digest)
		if err != nil || uint64(len(b)) != n.Size || castore.Digest(blake3.Sum256(b)) != n.Digest {
			t.Errorf("%s: blob %s of %d bytes reads as %d bytes, %v", path, n.Digest, n.Size, len(b), err)
		}
	}
	var paths []string
	for info, err := range store.PathInfos.List(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		path := info.StorePath.Absolute()
		paths = append(paths, path)
		if info.Node.Kind == castore.KindFile {
			blob(path, info.Node)
		}
		if info.Node.Kind != castore.KindDirectory {
			continue
		}
		for dir, err := range store.Directories.Closure(ctx, info.Node.Digest) {
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			for _, e := range dir.Entries() {
				if e.Kind == castore.KindFile {
					blob(path+": "+e.Name, e.Node)
				}
			}
		}
	}
	return paths
}
