package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/ingest"
)

// mountable skips the test unless this machine can mount FUSE file systems.
func mountable(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIP: /dev/fuse cannot be used: %v", err)
	}
	f.Close()
	if os.Geteuid() == 0 {
		dir := t.TempDir()
		if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
			t.Skipf("SKIP: root may not mount here: %v", err)
		}
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
	} else if _, err := exec.LookPath("fusermount3"); err != nil {
		t.Skip("SKIP: not root, and fusermount3 is missing (apt-get install fuse3)")
	}
}

// detach removes a mount that a failed test may have left.
func detach(t *testing.T, dir string) {
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// await waits until cond holds.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 3000 {
		if cond() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s: never", what)
}

func isMounted(dir string) bool {
	table, _ := os.ReadFile("/proc/self/mounts")
	return bytes.Contains(table, []byte(" "+dir+" fuse"))
}

// startMount mounts the store at dir until end is called. It is a process of its
// own: one that read what it serves itself could wait for itself.
func startMount(t *testing.T, dir string, args ...string) (end func() (code int, stderr string)) {
	t.Helper()
	detach(t, dir)
	cmd := process(append(append([]string{"mount"}, args...), dir)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the exit status says it
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // unless it has ended
		<-ended
	})
	await(t, "mount", func() bool { return isMounted(dir) })
	return func() (int, string) {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ended:
		case <-time.After(2 * time.Minute):
			t.Fatal("the mount does not end")
		}
		return cmd.ProcessState.ExitCode(), stderr.String()
	}
}

func TestMount(t *testing.T) {
	mountable(t)
	newStore(t)
	tree := sampleTree(t)
	path := strings.TrimSpace(must(t, "import", tree))
	dir := t.TempDir()
	end := startMount(t, dir)
	mounted := filepath.Join(dir, filepath.Base(path))
	if got, want := treeSum(t, mounted), treeSum(t, tree); got != want {
		t.Error("what is mounted is another tree")
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("the root lists %v, %v", list, err)
	}
	if err := os.WriteFile(dir+"/x", nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("writing: %v", err)
	}
	if _, err := os.Stat(dir + "/00000000000000000000000000000000-none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a path that is not there: %v", err)
	}
	open, err := os.Open(mounted + "/large") // does not keep the mount
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if code, stderr := end(); code != 0 || stderr != "" {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if isMounted(dir) {
		t.Error("it is still mounted")
	}
}

// treeSum is the NAR hash of a tree of the file system.
func treeSum(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	r, err := ingest.Path(context.Background(), castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r.NarSHA256
}

// TestMountKilled holds that a mount whose process dies can be removed, and
// says how.
func TestMountKilled(t *testing.T) {
	mountable(t)
	newStore(t)
	must(t, "import", sampleTree(t))
	dir := t.TempDir()
	detach(t, dir)
	cmd := process("mount", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "mount", func() bool { return isMounted(dir) })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	await(t, "end of the connection", func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, syscall.ENOTCONN)
	})
	refused(t, 1, []string{dir, "umount -l"}, "mount", dir)
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && os.Geteuid() == 0 {
		t.Error(err)
	}
	// SIGTERM unmounts, and so does the end of the mount itself end it.
	for name, end := range map[string]func(*os.Process) error{
		"SIGTERM": func(p *os.Process) error { return p.Signal(syscall.SIGTERM) },
		"umount":  func(*os.Process) error { return unix.Unmount(dir, 0) },
	} {
		if os.Geteuid() != 0 {
			break
		}
		cmd := process("mount", "--allow-other", dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, "mount", func() bool { return isMounted(dir) })
		if err := end(cmd.Process); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil || stderr.Len() != 0 {
			t.Errorf("%s: %v: %s", name, err, &stderr)
		}
		if isMounted(dir) {
			t.Errorf("%s: it is still mounted", name)
		}
	}
}

func TestMountRefuses(t *testing.T) {
	newStore(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"file": ""})
	refused(t, 1, []string{dir + "/none", "no such file"}, "mount", dir+"/none")
	refused(t, 1, []string{dir + "/file", "not a directory"}, "mount", dir+"/file")
	refused(t, 2, []string{"DIR is missing"}, "mount")
	refused(t, 2, []string{"--log-level"}, "mount", "--log-level", "loud", dir)
}
