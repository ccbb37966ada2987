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
)

// running is a VM whose program waits to be killed.
type running struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
}

// startWaiting starts a VM and returns when its program has spoken.
func (w *world) startWaiting(ctx context.Context, prog string) *running {
	w.t.Helper()
	r := &running{cmd: w.command(ctx, nil, "launcher", "run", prog, "wait")}
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

// TestDeaths kills each process of a running VM. Nothing may be left of the
// others (newWorld holds that), and the status must be a failure.
func TestDeaths(t *testing.T) {
	needVM(t)
	tests := []struct {
		name   string
		kill   func(t *testing.T, r *running) error
		code   int // of the launcher, -1 if a signal ended it
		stderr string
	}{
		{"store daemon killed", func(t *testing.T, r *running) error {
			return syscall.Kill(r.child(t, "virtiofsd"), syscall.SIGKILL)
		}, 1, "virtiofsd"},
		{"VMM killed", func(t *testing.T, r *running) error {
			return syscall.Kill(r.child(t, "qemu"), syscall.SIGKILL)
		}, 1, "qemu"},
		{"launcher terminated", func(_ *testing.T, r *running) error { return r.cmd.Process.Signal(syscall.SIGTERM) }, 128 + 15, ""},
		{"launcher interrupted", func(_ *testing.T, r *running) error { return r.cmd.Process.Signal(syscall.SIGINT) }, 128 + 2, ""},
		{"launcher killed", func(_ *testing.T, r *running) error { return r.cmd.Process.Kill() }, -1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			prog := w.addGuestProg() + "/bin/guestprog"
			ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
			defer cancel()
			r := w.startWaiting(ctx, prog)
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
			if tt.code == -1 {
				// What a killed launcher leaves on disk, the next one removes.
				if r := w.run(nil, "launcher", "run", prog, "exit", "0"); r.code != 0 {
					t.Errorf("the next launcher: %s", r)
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
