//go:build kvm

package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKVMRun runs programs with KVM in each VMM: exit status, outputs apart, what
// was chosen and why, and the end at a timeout.
func TestKVMRun(t *testing.T) {
	forEachMonitor(t, func(t *testing.T, monitor string, flags []string) {
		w := newWorld(t)
		hello := w.addHello()
		prog := w.addGuestProg() + "/bin/guestprog"
		run := func(args ...string) result {
			t.Helper()
			start := time.Now()
			r := w.run(nil, "launcher", append(append([]string{"run"}, flags...), args...)...)
			t.Logf("%v: %v", args, time.Since(start).Round(10*time.Millisecond))
			return r
		}
		if r := run(hello + "/bin/hello"); r.code != 0 || r.stdout != "Hello, world!\n" || r.stderr != "" {
			t.Fatalf("hello: %s", r)
		}
		if r := run(prog, "exit", "3"); r.code != 3 || r.stdout+r.stderr != "" {
			t.Errorf("exit status: %s", r)
		}
		if r := run(prog, "kill", "15"); r.code != 128+15 {
			t.Errorf("signal: %s", r)
		}
		if r := run(prog, "both"); r.code != 0 || !strings.Contains(r.stdout, "to stdout\n") || r.stdout+r.stderr != "to stdout\nto stderr\n" {
			t.Errorf("outputs: %s", r)
		} else if monitor == "qemu" && r.stderr != "to stderr\n" {
			t.Errorf("outputs are not apart: %s", r)
		}
		if r := run(prog, "bytes", "100000"); r.code != 0 || len(r.stdout) != 100000 || r.stdout[1000:1003] != "\xe8\xe9\xea" {
			t.Errorf("output of all bytes: %d, exit %d, %s", len(r.stdout), r.code, r.stderr)
		}
		if r := run("--timeout", "20s", prog, "wait"); r.code != 124 || r.stderr != "launcher: the VM was not done in time: it took longer than 20s (--timeout)\n" {
			t.Errorf("timeout: %s", r)
		}
		empty := filepath.Join(t.TempDir(), "initrd")
		if err := os.WriteFile(empty, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if r := run("--initrd", empty, prog, "exit", "0"); r.code != 1 || !strings.Contains(lastLine(r.stderr), "kernel panic: ") {
			t.Errorf("panic: %s", r)
		}
	})
}

// TestKVMChoice holds what the launcher takes by itself: KVM, and
// cloud-hypervisor where it is installed.
func TestKVMChoice(t *testing.T) {
	needCloudHypervisor(t)
	w := newWorld(t)
	prog := w.addGuestProg() + "/bin/guestprog"
	r := w.run(nil, "launcher", "run", "-v", "--kernel", smallKernel(t), prog, "exit", "3")
	if r.code != 3 || !strings.Contains(r.stderr, "cloud-hypervisor with kvm: KVM works") {
		t.Errorf("got %s", r)
	}
	// Its kernel is unpacked once, and kept.
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(cache + "/storeboot")
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, e := range list {
		if strings.HasPrefix(e.Name(), "vmlinux-") {
			kept++
		}
	}
	if kept != 1 {
		t.Errorf("%d kernels are kept unpacked, want one: %v", kept, list)
	}
}
