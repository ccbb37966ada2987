package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"storeboot/tests/nested"
)

// bootLimit is how long one VM may take on a slow machine without KVM, where
// it takes 3 to 8 s; other work on it may take most of its processors.
const bootLimit = 5 * time.Minute

// programs builds the five commands and the guest program once, and returns
// the directory that holds them.
var programs = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv(nested.DirVariable); dir != "" {
		return filepath.Join(dir, "bin"), nil
	}
	dir, err := os.MkdirTemp("", "storeboot-tests-")
	if err != nil {
		return "", err
	}
	built = dir
	return dir, buildPrograms(dir)
})

func buildPrograms(dir string) error {
	args := []string{"build", "-o", dir + "/"}
	for _, c := range commands {
		args = append(args, "storeboot/"+c)
	}
	cmd := exec.Command("go", append(args, "storeboot/tests/guestprog")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// built is what programs leaves to be removed.
var built string

func TestMain(m *testing.M) {
	code := runTests(m)
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// need fails or skips the test if a tool of the machine is missing: it fails
// where CI is set, since there every test has to run.
func need(t *testing.T, ok bool, what string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("CI") != "":
		t.Fatalf("this machine lacks %s", what)
	default:
		t.Skipf("SKIP: this machine lacks %s", what)
	}
}

func needVM(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("qemu-system-x86_64")
	need(t, err == nil, "qemu-system-x86_64 (apt-get install qemu-system-x86)")
	kernels, _ := filepath.Glob("/boot/vmlinuz-*")
	need(t, len(kernels) > 0, "a kernel in /boot (apt-get install linux-image-cloud-amd64)")
}

// world is a store of its own, with what the programs need around it.
type world struct {
	t       *testing.T
	bin     string
	store   string
	runtime string // XDG_RUNTIME_DIR
}

func newWorld(t *testing.T) *world {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	// A short path: sockets are made in it.
	runtime, err := os.MkdirTemp("", "sb")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, bin: bin, store: filepath.Join(t.TempDir(), "store"), runtime: runtime}
	t.Cleanup(func() {
		w.checkClean()
		_ = os.RemoveAll(runtime)
	})
	return w
}

// checkClean holds that nothing of a VM is left: no process that was started
// with our directories, nothing in the runtime directory.
func (w *world) checkClean() {
	w.t.Helper()
	var left []string
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		left = append(processesWith(w.runtime), processesWith(w.store)...)
		_ = filepath.WalkDir(w.runtime, func(path string, d os.DirEntry, err error) error {
			// The launcher keeps its own empty directory between VMs.
			if err == nil && !d.IsDir() {
				left = append(left, path)
			}
			return nil
		})
		if len(left) == 0 || time.Now().After(deadline) {
			break
		}
	}
	if len(left) > 0 {
		w.t.Errorf("left behind: %s", strings.Join(left, "; "))
	}
}

// processesWith lists the processes that have text in their command line.
func processesWith(text string) []string {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var out []string
	for _, d := range dirs {
		cmdline, err := os.ReadFile(d + "/cmdline")
		if err == nil && bytes.Contains(cmdline, []byte(text)) && filepath.Base(d) != fmt.Sprint(os.Getpid()) {
			out = append(out, filepath.Base(d)+" "+strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return out
}

// command prepares one of our programs; env is added to the environment.
func (w *world) command(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(w.bin, name), args...)
	cmd.Env = append(os.Environ(), "STOREBOOT_STORE="+w.store, "XDG_RUNTIME_DIR="+w.runtime)
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// result is how a program ended.
type result struct {
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("exit %d\n-- stdout\n%s\n-- stderr\n%s", r.code, r.stdout, r.stderr)
}

// run runs one of our programs to its end.
func (w *world) run(env []string, name string, args ...string) result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), bootLimit)
	defer cancel()
	cmd := w.command(ctx, env, name, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	r := result{stdout: out.String(), stderr: errOut.String()}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		w.t.Fatalf("%s %s: not done after %v\n%s", name, strings.Join(args, " "), bootLimit, r)
	case errors.As(err, &exit):
		r.code = exit.ExitCode()
	case err != nil:
		w.t.Fatalf("%s: %v", name, err)
	}
	return r
}

// must runs a program that has to succeed, and returns its output.
func (w *world) must(name string, args ...string) string {
	w.t.Helper()
	r := w.run(nil, name, args...)
	if r.code != 0 {
		w.t.Fatalf("%s %s: %s", name, strings.Join(args, " "), r)
	}
	return r.stdout
}

// addGuestProg stores the guest program under the name and returns its path.
// It is a tree with the program at bin/guestprog and, for systems, at init.
func (w *world) addGuestProg() string {
	w.t.Helper()
	return w.addProgram(filepath.Join(w.bin, "guestprog"))
}

// addProgram stores that build of the guest program.
func (w *world) addProgram(file string) string {
	w.t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	tree := filepath.Join(w.t.TempDir(), "guestprog")
	for _, name := range []string{"bin/guestprog", "init"} {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, src, 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(tree, "bin/data"), []byte("not a program\n"), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(w.must("virtiofsd", "import", tree))
}

// helloClosure builds the two-path closure of hello.nix in the machine's Nix
// store, once, and returns the path of hello.
var helloClosure = sync.OnceValues(func() (string, error) {
	var errOut bytes.Buffer
	cmd := exec.Command("./hello-closure")
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("hello-closure: %w: %s", err, errOut.String())
	}
	return strings.TrimSpace(string(out)), nil
})

// addHello takes the closure of hello into the store.
func (w *world) addHello() string {
	w.t.Helper()
	if dir := os.Getenv(nested.DirVariable); dir != "" {
		return w.takeHello(dir)
	}
	for _, tool := range []string{"nix-build", "patchelf", "hello"} {
		_, err := exec.LookPath(tool)
		need(w.t, err == nil, tool+" (apt-get install nix-bin patchelf hello)")
	}
	hello, err := helloClosure()
	if err != nil {
		w.t.Fatal(err)
	}
	w.must("virtiofsd", "copy", "--from-nix", hello)
	return hello
}

// takeHello takes the store with the closure of hello that was made for the
// nested host.
func (w *world) takeHello(dir string) string {
	w.t.Helper()
	path, err := os.ReadFile(filepath.Join(dir, "hello"))
	if err == nil {
		err = os.CopyFS(w.store, os.DirFS(filepath.Join(dir, "store")))
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(string(path))
}
