package tests

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// running is a VM whose program waits to be killed.
type running struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
}

// startWaiting starts a VM and returns when its program has spoken.
func (w *world) startWaiting(ctx context.Context, args ...string) *running {
	w.t.Helper()
	r := &running{cmd: w.command(ctx, nil, "launcher", args...)}
	r.cmd.Stderr = &r.stderr
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "waiting\n" {
		w.t.Fatalf("guest said %q: %v; stderr %s", line, err, r.stderr.String())
	}
	return r
}

// child returns the process id of the launcher's child with that name.
func (r *running) child(t *testing.T, name string) int {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", r.cmd.Process.Pid))
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for _, pid := range strings.Fields(string(children)) {
			comm, _ := os.ReadFile("/proc/" + pid + "/comm")
			if strings.HasPrefix(strings.TrimSpace(string(comm)), name) {
				n, err := strconv.Atoi(pid)
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
		}
	}
	t.Fatalf("launcher has no child %s", name)
	return 0
}

// TestDeaths ends a VM in each way there is. Nothing may be left of it (newWorld
// holds that), and the status must be true.
func TestDeaths(t *testing.T) {
	needVM(t)
	signal := func(list ...syscall.Signal) func(*testing.T, *running) error {
		return func(_ *testing.T, r *running) error {
			var err error
			for i, s := range list {
				if i > 0 {
					time.Sleep(300 * time.Millisecond)
				}
				err = r.cmd.Process.Signal(s)
			}
			return err
		}
	}
	killChild := func(name string) func(*testing.T, *running) error {
		return func(t *testing.T, r *running) error { return syscall.Kill(r.child(t, name), syscall.SIGKILL) }
	}
	nothing := func(*testing.T, *running) error { return nil }
	share := []string{"--share", "etc=/etc"}
	tests := []struct {
		name    string
		flags   []string
		program string // of the guest
		kill    func(t *testing.T, r *running) error
		code    int // of the launcher, -1 if a signal ended it
		stderr  string
		usual   bool
	}{
		{"store daemon killed", nil, "wait", killChild("virtiofsd"), 1, "virtiofsd", true},
		{"VMM killed", nil, "wait", killChild("qemu"), 1, "qemu", true},
		{"share's daemon killed", share, "wait", func(t *testing.T, r *running) error {
			for _, p := range processesWith("share0.sock") {
				pid, err := strconv.Atoi(strings.Fields(p)[0])
				if err == nil && !strings.Contains(p, "qemu-system") {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			return nil
		}, 1, "virtiofsd", false},
		{"VMM terminated", nil, "wait", func(t *testing.T, r *running) error {
			return syscall.Kill(r.child(t, "qemu"), syscall.SIGTERM)
		}, 1, "qemu", false},
		{"launcher terminated", nil, "wait", signal(syscall.SIGTERM), 128 + 15, "", true},
		{"launcher interrupted", nil, "wait", signal(syscall.SIGINT), 128 + 2, "", false},
		{"program obeys the interrupt", nil, "obey", signal(syscall.SIGINT), 5, "", true},
		{"program ignores the first interrupt", nil, "stubborn", signal(syscall.SIGINT, syscall.SIGINT), 128 + 2, "", true},
		{"program ignores SIGTERM", nil, "stubborn", signal(syscall.SIGTERM), 1, "", false},
		{"launcher hung up on", nil, "wait", signal(syscall.SIGHUP), 128 + 1, "", false},
		{"launcher quit", nil, "wait", signal(syscall.SIGQUIT), 128 + 3, "", false},
		{"launcher killed", nil, "wait", signal(syscall.SIGKILL), -1, "", true},
		{"launcher killed with a share", share, "wait", signal(syscall.SIGKILL), -1, "", false},
		{"launcher aborted", nil, "wait", signal(syscall.SIGABRT), 2, "SIGABRT", false},
		{"launcher's crash", nil, "wait", signal(syscall.SIGSEGV), 2, "SIGSEGV", false},
		{"guest panics", nil, "panic", nothing, 1, "kernel panic: sysrq triggered crash", true},
		{"guest hangs", []string{"--timeout", "40s"}, "stubborn", nothing, 124, "it took longer than 40s", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !tt.usual && !everyVM() {
				t.Skip("SKIP: the usual deaths stand for it; STOREBOOT_VM_TESTS=all dies this one too")
			}
			w := newWorld(t)
			prog := w.addGuestProg() + "/bin/guestprog"
			ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
			defer cancel()
			r := w.startWaiting(ctx, append(append([]string{"run"}, tt.flags...), prog, tt.program)...)
			if err := tt.kill(t, r); err != nil {
				t.Fatal(err)
			}
			_ = r.cmd.Wait()
			if ctx.Err() != nil {
				t.Fatal("the launcher did not end")
			}
			if code := r.cmd.ProcessState.ExitCode(); code != tt.code || !strings.Contains(r.stderr.String(), tt.stderr) {
				t.Errorf("%v, want exit %d with %q; stderr %s", r.cmd.ProcessState, tt.code, tt.stderr, r.stderr.String())
			}
			if !r.cmd.ProcessState.Exited() || tt.code == 2 {
				// What a launcher leaves on disk that is killed or crashes, the next one
				// finds.
				if r := w.run(nil, "launcher", "ps"); r.code != 0 || !strings.Contains(r.stderr, "whose launcher was killed") {
					t.Errorf("launcher ps: %s", r)
				}
			}
		})
	}
}

// TestTimeout ends a VM that takes too long.
func TestTimeout(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	prog := w.addGuestProg() + "/bin/guestprog"
	if r := w.run(nil, "launcher", "run", "--timeout", "1s", prog, "wait"); r.code != 124 || !strings.Contains(r.stderr, "1s") {
		t.Errorf("want exit 124: %s", r)
	}
}
