package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inSandbox is the variable by which the test's process knows that it is the one
// to enter the sandbox: it cannot be left again.
const inSandbox = "SANDBOX_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(inSandbox); dir != "" {
		if err := inside(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// inside enters the sandbox and tries what is still possible.
func inside(dir string) error {
	if _, err := os.ReadFile("/etc/shadow"); err != nil && os.Geteuid() == 0 {
		return fmt.Errorf("before: %w", err)
	}
	r, err := Enter(Options{ReadWrite: []string{dir + "/rw"}, ReadOnly: []string{dir + "/ro", dir + "/none"}, Strict: true})
	if err != nil {
		return err
	}
	if r.Landlock == 0 || !r.Seccomp {
		return fmt.Errorf("report %+v", r)
	}
	var wrong []error
	check := func(what string, err error, want ...error) {
		for _, w := range want {
			if errors.Is(err, w) {
				return
			}
		}
		wrong = append(wrong, fmt.Errorf("%s: %v, want %v", what, err, want))
	}
	done := make(chan error)
	go func() { // on whatever thread
		_, err := os.ReadFile("/etc/shadow")
		done <- err
	}()
	check("read /etc/shadow", <-done, syscall.EACCES)
	_, err = os.ReadFile(dir + "/ro/file")
	check("read", err, nil)
	check("write what is to be read", os.WriteFile(dir+"/ro/file", nil, 0o600), syscall.EACCES)
	check("write", os.WriteFile(dir+"/rw/file", []byte("x"), 0o600), nil)
	check("rename", os.Rename(dir+"/rw/file", dir+"/rw/sub/file"), nil)
	check("begin a program", exec.Command("/bin/true").Run(), syscall.EACCES, syscall.EPERM)
	check("mount", unix.Mount("none", dir+"/rw", "tmpfs", 0, ""), syscall.EPERM)
	check("unshare", unix.Unshare(unix.CLONE_NEWNS), syscall.EPERM)
	check("ptrace", unix.PtraceAttach(1), syscall.EPERM)
	return errors.Join(wrong...)
}

func TestEnter(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"rw/sub", "ro"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/ro/file", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), inSandbox+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "no Landlock") && os.Getenv("CI") == "" {
			t.Skipf("SKIP: %s", out)
		}
		t.Errorf("%v: %s", err, out)
	}
}
