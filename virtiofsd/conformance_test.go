package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// startProcess starts a daemon that listens at socket, ends it with the test,
// and waits until the socket is there.
func startProcess(t *testing.T, cmd *exec.Cmd, socket string) {
	t.Helper()
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			// QEMU's daemon ends with its connection, or before that of the signal.
			if err != nil && err.Error() != "signal: terminated" || strings.Contains(string(out.b), "panic") {
				t.Errorf("%s: %v: %s", cmd.Path, err, out.b)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("%s does not end", cmd.Path)
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Lstat(socket); err == nil {
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v: %s", cmd.Path, err, out.b)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen", cmd.Path)
		}
	}
}

// tail keeps the end of what a process prints. It is read when that has ended.
type tail struct{ b []byte }

func (w *tail) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	if extra := len(w.b) - 64<<10; extra > 0 {
		w.b = append(w.b[:0], w.b[extra:]...)
	}
	return len(p), nil
}

// fixture is a directory with the suite's tree.
func fixture(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "fixture")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := vt.WriteFixture(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestConformance runs the suite against this daemon, as a real process, and
// against QEMU's, which shows that the suite asks for what is so.
func TestConformance(t *testing.T) {
	dir := fixture(t)
	t.Run("ours", func(t *testing.T) {
		store := filepath.Join(t.TempDir(), "store")
		path := strings.TrimSpace(must(t, "import", "--store", store, dir))
		socket := filepath.Join(shortDir(t), "s")
		startProcess(t, process("serve", "--store", store, "--socket-path", socket), socket)
		vt.Conformance(t, vt.Daemon{
			Start:    func(*testing.T) string { return socket },
			Root:     filepath.Base(path),
			Protocol: vt.ProtocolMQ | vt.ProtocolLogShm | vt.ProtocolInflight | vt.ProtocolReset | vt.ProtocolMemSlots,
			Many:     true,
		})
	})
	t.Run("QEMU", func(t *testing.T) {
		const program = "/usr/lib/qemu/virtiofsd"
		if _, err := os.Stat(program); err != nil || os.Getuid() != 0 {
			t.Skipf("SKIP: needs %s (package qemu-system-common of Debian 12) and root: %v", program, err)
		}
		vt.Conformance(t, vt.Daemon{BaseIsLate: true, Start: func(t *testing.T) string {
			socket := filepath.Join(shortDir(t), "s")
			startProcess(t, exec.Command(program, "-f", "--socket-path="+socket, "-o", "source="+dir, "-o", "sandbox=chroot"), socket)
			return socket
		}})
	})
}
