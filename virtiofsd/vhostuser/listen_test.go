package vhostuser_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/vhostuser"
)

func newFile(fd int) *os.File { return os.NewFile(uintptr(fd), "socket") }

func TestListen(t *testing.T) {
	dir, err := os.MkdirTemp("", "vh") // short: TempDir names the test
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := vhostuser.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", st.Mode(), err)
	}
	if _, err := vhostuser.Listen(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("in use: %v", err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	l, err = vhostuser.Listen(path) // what a killed process left
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	_ = l.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := vhostuser.Listen(path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("file: %v", err)
	}
	if _, err := vhostuser.Listen(filepath.Join(dir, strings.Repeat("x", 120))); err == nil || !strings.Contains(err.Error(), "107") {
		t.Errorf("long path: %v", err)
	}
	if _, err := vhostuser.Listen(filepath.Join(dir, "none/s")); err == nil || strings.Count(err.Error(), "none/s") != 1 {
		t.Errorf("no directory: %v", err)
	}
	if _, err := vhostuser.ListenFD(999); err == nil {
		t.Error("ListenFD of a closed descriptor")
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vhostuser.ListenFD(fd); err == nil || !strings.Contains(err.Error(), "socket") {
		t.Errorf("ListenFD of an eventfd: %v", err)
	}
}
