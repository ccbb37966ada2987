//go:build peers

package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// limit is how long a program may take.
const limit = 2 * time.Minute

// built is the directory of our programs.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "storeboot-peers-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir+"/", "storeboot/virtiofsd", "storeboot/mkinitrd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := built(); dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// ours is the path of one of our programs.
func ours(t *testing.T, name string) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// peerNames are the programs of the original.
var peerNames = []string{"snix-store", "tvix-store"}

// forEachPeer runs a test with every peer that there is.
func forEachPeer(t *testing.T, test func(t *testing.T, peer string)) {
	for _, name := range peerNames {
		t.Run(name, func(t *testing.T) {
			path, err := exec.LookPath(name)
			if err != nil {
				t.Skipf("SKIP: %s is not in $PATH", name)
			}
			// Ours under that name says so, and is no peer.
			out, err := exec.Command(path, "--help").CombinedOutput()
			if err != nil || bytes.Contains(out, []byte("storeboot")) {
				t.Skipf("SKIP: %s is not the original's: %v", path, err)
			}
			test(t, path)
		})
	}
}

// addresses are those of the three services, as environment.
func addresses(blobs, directories, pathInfos string) []string {
	return []string{"BLOB_SERVICE_ADDR=" + blobs, "DIRECTORY_SERVICE_ADDR=" + directories, "PATH_INFO_SERVICE_ADDR=" + pathInfos}
}

// one is the same address for all three.
func one(address string) []string { return addresses(address, address, address) }

// run runs a program to its end, which has to be a success, and returns its
// output.
func run(t *testing.T, env []string, stdin, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(append(os.Environ(), "RUST_LOG=warn", "RUST_BACKTRACE=0"), env...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", filepath.Base(program), args, err, &stderr)
	}
	return string(out)
}

// daemon starts a store daemon on a socket until the test ends, or until the
// function that it returns is called, and returns its address. Ours and theirs
// are started alike; ours has virtiofsd as its name.
func daemon(t *testing.T, env []string, program string) (address string, stop func()) {
	t.Helper()
	socket := filepath.Join(shortDir(t), "s")
	args := []string{"--otlp=false", "daemon", "-l", socket}
	if filepath.Base(program) == "virtiofsd" {
		args = args[1:]
	}
	return "grpc+unix://" + socket, start(t, env, socket, program, args...)
}

// start starts a program that makes a socket, and waits for that.
func start(t *testing.T, env []string, socket, program string, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(append(os.Environ(), "RUST_LOG=warn", "RUST_BACKTRACE=0"), env...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s %q:\n%s", filepath.Base(program), args, &log)
		}
	})
	t.Cleanup(stop)
	for range 300 {
		if info, err := os.Lstat(socket); err == nil && info.Mode().Type() == os.ModeSocket {
			return stop
		}
		select {
		case <-ended:
			t.Fatalf("%s %q ended:\n%s", filepath.Base(program), args, &log)
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatalf("%s %q makes no socket:\n%s", filepath.Base(program), args, &log)
	return nil
}

// shortDir is a directory for sockets, whose paths are at most 107 bytes long.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sbp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// sampleTree makes a directory with all that a store has to carry: files of one
// and of many chunks, of random and of repeated bytes, executables, symlinks,
// empty files and directories, names of odd bytes.
func sampleTree(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	r := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32.32s", name))))
	random := func(n int) []byte {
		b := make([]byte, n)
		_, _ = r.Read(b)
		return b
	}
	files := map[string][]byte{
		"empty":                nil,
		"small":                []byte("contents\n"),
		"bin/tool*":            []byte("#!/bin/sh\n"),
		"bin/same-but-plain":   []byte("#!/bin/sh\n"),
		"deep/er/and/deeper/f": []byte("f"),
		"odd \xff name":        []byte("odd"),
		"chunks/128KiB":        random(128 << 10),
		"chunks/512KiB+1":      random(512<<10 + 1),
		"chunks/1MiB":          random(1 << 20),
		"chunks/20MiB":         random(20 << 20),
		"chunks/zeros":         make([]byte, 3<<20),
		"chunks/text":          bytes.Repeat([]byte("the same line again\n"), 200_000),
	}
	for i := range 300 {
		files[fmt.Sprintf("many/%03d", i)] = random(i)
	}
	for name, content := range files {
		name, executable := strings.CutSuffix(name, "*")
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if executable {
			mode = 0o755
		}
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "nothing"), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"link": "small", "bin/up": "../deep", "broken": "/nix/store/none"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// paths are the lines of a program's output, sorted.
func paths(out string) []string {
	lines := strings.Fields(out)
	slices.Sort(lines)
	return lines
}

// closureJSON describes a closure of the local Nix store, as copy takes it.
func closureJSON(t *testing.T, path string) string {
	t.Helper()
	out := run(t, []string{"NIX_CONFIG=build-users-group =\nsubstitute = false"}, "", "nix",
		"--extra-experimental-features", "nix-command", "path-info", "--json", "--closure-size", "--recursive", path)
	b, err := json.Marshal(map[string]json.RawMessage{"closure": json.RawMessage(out)})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// hello is the closure of tests/hello.nix in the local Nix store.
func hello(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"nix", "nix-build", "patchelf", "hello"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIP: %s is not in $PATH (apt-get install nix-bin patchelf hello)", tool)
		}
	}
	return strings.TrimSpace(run(t, nil, "", "../hello-closure"))
}

// command is a program that is stopped when the test ends.
func command(t *testing.T, env []string, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(append(os.Environ(), "RUST_LOG=warn", "RUST_BACKTRACE=0"), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}
