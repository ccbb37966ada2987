package session

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// shortDir is a temporary directory whose path leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "base")
}

// checkClean holds that nothing is left in base and that no process knows it.
// A process that has just been killed with its parent may take a moment.
func checkClean(t *testing.T, base string, files bool) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		left = nil
		procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, p := range procs {
			if text, err := os.ReadFile(p); err == nil && bytes.Contains(text, []byte(base)) {
				left = append(left, strings.ReplaceAll(string(text), "\x00", " "))
			}
		}
		entries, _ := os.ReadDir(base)
		for _, e := range entries {
			if files {
				left = append(left, e.Name())
			}
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("left behind: %s", strings.Join(left, "; "))
}

func TestRun(t *testing.T) {
	tests := []struct {
		name                     string
		daemon, builder, actions string
		change                   func(*Config)
		status                   int
		out                      string
		err                      string // of Status, or of Run with status -1
	}{
		{"exit status", "serve", "good", "say=hello|exited=3|shutdown=guest-shutdown", nil, 3, "hello\n", ""},
		{"success", "serve", "good", "exited=0|shutdown=guest-shutdown", nil, 0, "", ""},
		{"much output", "serve", "good", "bytes=5000000|exited=0", nil, 0, strings.Repeat("0123456789abcde\n", 5000000/16), ""},
		{"guest's failure", "serve", "good", "failed=no such program /nix/store/x|shutdown=guest-shutdown", nil, 127, "", "no such program /nix/store/x"},
		{"last report counts", "serve", "good", "handover|exited=4", nil, 4, "", ""},
		{"report on the console", "serve", "good", `print=[    1.5] storeboot-exit-report: {"version":1,"outcome":"exited","status":9}`, nil, 9, "", ""},
		{"system's power-off", "serve", "good", "handover|shutdown=guest-shutdown", nil, 0, "", ""},
		{"system's restart", "serve", "good", "handover|print=[  2.0] reboot: Restarting system|shutdown=guest-reset", nil, 0, "", ""},
		{"system's reset", "serve", "good", "handover|print=last words|shutdown=guest-reset", nil, 1, "", "the guest was reset without a word; the last line on its kernel console: last words"},
		{"system's panic", "serve", "good", "handover|print=[  3.25] Kernel panic - not syncing: Attempted to kill init!|shutdown=guest-reset", nil, 1, "", "kernel panic: Attempted to kill init!"},
		{"panic", "serve", "good", "print=Kernel panic - not syncing: VFS|print=more|shutdown=guest-reset", nil, 1, "", "kernel panic: VFS"},
		{"no report", "serve", "good", "shutdown=guest-shutdown", nil, 1, "", "the guest ended without an exit report; its kernel console is empty"},
		{"monitor fails", "serve", "good", "complain=qemu: no such device|exit=1", nil, 1, "", "qemu ended with exit status 1: qemu: no such device"},
		{"monitor is killed", "serve", "good", "die", nil, 1, "", "qemu was killed by signal 9 (killed)"},
		{"monitor is told to end", "serve", "good", "shutdown=host-signal", nil, 1, "", "qemu was told to end"},
		{"monitor that boots again", "serve", "good", "handover|shutdown=guest-reset|hang", func(c *Config) {
			c.Hypervisor = &fakeMonitor{actions: "print=reboot: Restarting system|handover|shutdown=guest-reset|hang", again: true}
		}, 0, "", ""},
		{"daemon refuses", "refuse", "good", "say=never", nil, -1, "", "store path X is not in the store: import it"},
		{"daemon refuses while the initrd is built", "refuse", "hang", "say=never", nil, -1, "", "store path X is not in the store: import it"},
		{"daemon misused", "usage", "good", "say=never", nil, -1, "", "unknown flag: --x"},
		{"daemon dies early", "silent-death", "good", "say=never", nil, -1, "", "virtiofsd ended with exit status 7"},
		{"daemon talks nonsense", "nonsense", "good", "exited=5", nil, -1, "", "store daemon event: "},
		{"initrd fails", "serve", "fail", "say=never", nil, -1, "", "module no_such_module: not in /lib/modules"},
		{"no initrd builder", "serve", "good", "", func(c *Config) { c.BuildInitrd = nil; c.Initrd = "/nonexistent/initrd" }, -1, "", "open initrd: open /nonexistent/initrd"},
		{"no daemon", "serve", "good", "", func(c *Config) { c.Daemon.Path = "/nonexistent/virtiofsd" }, -1, "", "start virtiofsd: "},
		{"wrong machine", "serve", "good", "", func(c *Config) { c.Machine.CPUs = 0 }, -1, "", "0 CPUs"},
		{"timeout", "serve", "good", "hang", func(c *Config) { c.Timeout = 50 * time.Millisecond }, -1, "", "longer than 50ms"},
		{"input", "serve", "good", "echo|exited=0", func(c *Config) { c.Input = strings.NewReader("a line\nmore\n") }, 0, "typed a line\n", ""},
		{"escape keys", "serve", "good", "hang", func(c *Config) { c.Input = &escape{r: strings.NewReader("ab\x1d\x1d\x1d"), now: time.Now} }, -1, "", "Ctrl-] three times"},
		{"output that fails", "serve", "good", "say=hello|hang", func(c *Config) { c.ProgramOut = failingWriter{} }, -1, "", "write the guest's output: broken pipe"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := shortDir(t)
			var out bytes.Buffer
			c := testConfig(base, tt.daemon, tt.builder, tt.actions, &out)
			if tt.change != nil {
				tt.change(c)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r, err := Run(ctx, c)
			status := -1
			if err == nil {
				status, err = r.Status()
			}
			if status != tt.status || out.String() != tt.out {
				t.Errorf("status %d, output of %d bytes %.80q; want %d, %.80q", status, out.Len(), out.String(), tt.status, tt.out)
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			checkClean(t, base, true)
		})
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// TestInterrupt ends sessions from outside at random moments.
func TestInterrupt(t *testing.T) {
	cause := errors.New("told to end")
	for i := range 25 {
		base := shortDir(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		delay := time.Duration(rand.Int64N(int64(60 * time.Millisecond)))
		time.AfterFunc(delay, func() { cancel(cause) })
		_, err := Run(ctx, testConfig(base, "serve", "good", "say=running|hang", io.Discard))
		if !errors.Is(err, cause) {
			t.Errorf("%d: after %v: %v", i, delay, err)
		}
		checkClean(t, base, true)
	}
}

// TestKilledChildren kills the daemon or the monitor at random moments.
func TestKilledChildren(t *testing.T) {
	for i := range 25 {
		base := shortDir(t)
		name := []string{"daemon", "monitor"}[i%2]
		delay := time.Duration(rand.Int64N(int64(20 * time.Millisecond)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for ctx.Err() == nil {
				if pid := childOf(os.Getpid(), name); pid != 0 {
					time.Sleep(delay)
					_ = syscall.Kill(pid, syscall.SIGKILL)
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		r, err := Run(ctx, testConfig(base, "serve", "good", "say=running|hang", io.Discard))
		if err == nil {
			var status int
			if status, err = r.Status(); status == 0 {
				t.Errorf("%d: success", i)
			}
		}
		if ctx.Err() != nil || err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("%d: %s killed after %v: %v", i, name, delay, err)
		}
		cancel()
		<-stop
		checkClean(t, base, true)
	}
}

// childOf is the process id of the helper of that name below parent, 0 if
// there is none.
func childOf(parent int, name string) int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, task := range tasks {
		list, _ := os.ReadFile(task)
		for pid := range strings.FieldsSeq(string(list)) {
			cmdline, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			if bytes.Contains(cmdline, []byte(helperMark+"\x00"+name+"\x00")) {
				n, _ := strconv.Atoi(pid)
				return n
			}
		}
	}
	return 0
}

// TestKilledLauncher kills a whole launcher outright: the kernel kills its
// children, and the next session removes its directory.
func TestKilledLauncher(t *testing.T) {
	for i := range 8 {
		base := shortDir(t)
		c := exec.Command("/proc/self/exe", helperMark, "session", base)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 { // else at a random moment
			if line, err := bufio.NewReader(out).ReadString('\n'); line != "running\n" {
				t.Fatalf("%q, %v", line, err)
			}
		} else {
			time.Sleep(time.Duration(rand.Int64N(int64(50 * time.Millisecond))))
		}
		_ = c.Process.Kill()
		_ = c.Wait()
		checkClean(t, base, false)
		if i%2 == 0 {
			if entries, _ := os.ReadDir(base); len(entries) != 1 {
				t.Fatalf("%d directories of a killed session: what follows would prove nothing", len(entries))
			}
		}
		if _, err := Run(t.Context(), testConfig(base, "serve", "good", "exited=0", io.Discard)); err != nil {
			t.Error(err)
		}
		checkClean(t, base, true)
	}
}

// TestTogether runs sessions side by side in one base.
func TestTogether(t *testing.T) {
	base := shortDir(t)
	var good atomic.Int32
	t.Run("all", func(t *testing.T) {
		for i := range 6 {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				r, err := Run(t.Context(), testConfig(base, "serve", "good", fmt.Sprintf("exited=%d", 10+i), io.Discard))
				if err != nil {
					t.Fatal(err)
				}
				if status, err := r.Status(); status != 10+i || err != nil {
					t.Errorf("status %d, %v; want %d", status, err, 10+i)
				}
				good.Add(1)
			})
		}
	})
	if good.Load() != 6 {
		t.Errorf("%d sessions ended well", good.Load())
	}
	checkClean(t, base, true)
}
