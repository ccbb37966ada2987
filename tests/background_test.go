package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// endVM ends the VM with the test, however that fares.
func (w *world) endVM(name string) {
	w.t.Cleanup(func() {
		for _, args := range [][]string{{"stop", "--kill", name}, {"rm", name}} {
			_ = w.command(context.Background(), nil, "launcher", args...).Run()
		}
	})
}

// TestBackground runs a VM in the background: what is listed of it, further
// programs in it, its logs, its end and its status.
func TestBackground(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	prog := w.addGuestProg() + "/bin/guestprog"
	if out := w.must("launcher", "run", "--detach", "--name", "web", "--pin", "0@0", prog, "stubborn"); out != "web\n" {
		t.Fatalf("--detach printed %q", out)
	}
	w.endVM("web")
	var vm struct {
		Name, VMM string
		Detached  bool
		VMMPID    int `json:"vmm_pid"`
	}
	if err := json.Unmarshal([]byte(w.must("launcher", "ps", "--json")), &vm); err != nil || vm.Name != "web" || vm.VMM != "qemu" || !vm.Detached || vm.VMMPID == 0 {
		t.Errorf("ps: %+v, %v", vm, err)
	}
	if !threadAllowed(vm.VMMPID, "0") {
		t.Error("--pin: no thread of the monitor runs on processor 0 alone")
	}
	exec := func(input string, args ...string) result {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
		defer cancel()
		cmd := w.command(ctx, nil, "launcher", append([]string{"exec"}, args...)...)
		var out, errOut bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errOut
		_ = cmd.Run()
		return result{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
	}
	if r := exec("", "web", prog, "both"); r.code != 0 || r.stdout != "to stdout\n" || r.stderr != "to stderr\n" {
		t.Errorf("exec: %s", r)
	}
	if r := exec("", "web", prog, "exit", "9"); r.code != 9 || r.stdout+r.stderr != "" {
		t.Errorf("exec with a status: %s", r)
	}
	big := strings.Repeat("0123456789abcde\n", 100_000)
	if r := exec(big, "web", prog, "stdin"); r.stdout != fmt.Sprintf("bytes %d\n", len(big)) {
		t.Errorf("exec with input: %s", r)
	}
	if r := exec("", "web", prog, "bytes", "3000000"); len(r.stdout) != 3000000 || r.stdout[1000:1003] != "\xe8\xe9\xea" {
		t.Errorf("exec with output: %d bytes, exit %d, %s", len(r.stdout), r.code, r.stderr)
	}
	if r := exec("", "web", "/none"); r.code != 127 || !strings.Contains(r.stderr, "/none") {
		t.Errorf("exec of nothing: %s", r)
	}
	if out := w.must("launcher", "logs", "web"); out != "waiting\n" {
		t.Errorf("logs: %q", out)
	}
	if r := w.run(nil, "launcher", "run", "--detach", "--name", "web", prog, "wait"); r.code != 1 || !strings.Contains(r.stderr, "there is a VM web") {
		t.Errorf("another of that name: %s", r)
	}
	w.must("launcher", "stop", "web")
	if out := w.must("launcher", "ps"); !strings.Contains(out, "ended (") {
		t.Errorf("ps after the end: %s", out)
	}
	if r := w.run(nil, "launcher", "wait", "web"); r.code != 143 {
		t.Errorf("wait: %s", r)
	}
	if out := w.must("launcher", "logs", "--kernel", "web"); !strings.Contains(out, "stopped by a signal") {
		t.Errorf("the kernel's log: %s", out)
	}
	w.must("launcher", "rm", "web")
	if out := w.must("launcher", "ps", "-q"); out != "" {
		t.Errorf("ps after rm: %s", out)
	}
}

// threadAllowed says whether a thread of the process may run on that list of
// processors and no other.
func threadAllowed(pid int, cpus string) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), "\nCpus_allowed_list:\t"+cpus+"\n") {
			return true
		}
	}
	return false
}

// TestBackgroundFailures holds that a VM that cannot begin says so at once, with
// its status.
func TestBackgroundFailures(t *testing.T) {
	w := newWorld(t)
	if r := w.run(nil, "launcher", "run", "--detach", "/nix/store/00000000000000000000000000000000-none/bin/x"); r.code != 1 || !strings.Contains(r.stderr, "00000000000000000000000000000000-none") {
		t.Errorf("a path that is not in the store: %s", r)
	}
	if r := w.run(nil, "launcher", "run", "--detach", "--kernel", "/none", "/nix/store/00000000000000000000000000000000-none/bin/x"); r.code != 1 || !strings.Contains(r.stderr, "/none") {
		t.Errorf("no kernel: %s", r)
	}
	if r := w.run(nil, "launcher", "exec", "none", "x"); r.code != 1 || !strings.Contains(r.stderr, "there is no VM none") {
		t.Errorf("exec: %s", r)
	}
	for _, left := range strings.Fields(w.must("launcher", "ps", "-q")) {
		w.must("launcher", "rm", left)
	}
}

// TestAttach attaches to a shell's console in the background, leaves it, comes
// back and ends it.
func TestAttach(t *testing.T) {
	needVM(t)
	if !everyVM() {
		t.Skip("SKIP: TestBackground stands for it; STOREBOOT_VM_TESTS=all attaches")
	}
	w := newWorld(t)
	prog := w.addGuestProg() + "/bin/guestprog"
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	name := strings.TrimSpace(w.must("launcher", "run", "-d", "-t", prog, "size"))
	w.endVM(name)
	session := func(expect, typed string) error {
		cmd := w.command(ctx, nil, "launcher", "attach", name)
		f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 90})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var seen bytes.Buffer
		buf := make([]byte, 4096)
		for !strings.Contains(seen.String(), expect) {
			n, err := f.Read(buf)
			if err != nil {
				t.Fatalf("saw %q: %v", seen.String(), err)
			}
			seen.Write(buf[:n])
		}
		if _, err := f.WriteString(typed); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				if _, err := f.Read(buf); err != nil {
					return
				}
			}
		}()
		return cmd.Wait()
	}
	if err := session("size ", "\x1d\x1d\x1d"); err != nil {
		t.Errorf("leave: %v", err)
	}
	if out := w.must("launcher", "ps"); !strings.Contains(out, "running") {
		t.Errorf("left: %s", out)
	}
	if err := session("size ", "x\r"); err != nil {
		t.Errorf("end: %v", err)
	}
}

// TestResize runs a program on a terminal whose window changes.
func TestResize(t *testing.T) {
	needVM(t)
	if !everyVM() {
		t.Skip("SKIP: init's own tests stand for it; STOREBOOT_VM_TESTS=all changes a window")
	}
	w := newWorld(t)
	prog := w.addGuestProg() + "/bin/guestprog"
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	cmd := w.command(ctx, nil, "launcher", "run", prog, "size")
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 30, Cols: 90})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var seen bytes.Buffer
	wait := func(text string) {
		buf := make([]byte, 4096)
		for !strings.Contains(seen.String(), text) {
			n, err := f.Read(buf)
			if err != nil {
				t.Fatalf("saw %q, want %q: %v", seen.String(), text, err)
			}
			seen.Write(buf[:n])
		}
	}
	wait("size 30 90")
	if err := pty.Setsize(f, &pty.Winsize{Rows: 50, Cols: 132}); err != nil {
		t.Fatal(err)
	}
	wait("size 50 132")
	if _, err := f.WriteString("\r"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v; saw %q", err, seen.String())
	}
}

// TestShares gives a guest two directories of the host, and holds that the
// host itself keeps the guest from writing to the read-only one.
func TestShares(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	prog := w.addGuestProg() + "/bin/guestprog"
	ro, rw := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(ro, "file"), []byte("of the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	flags := []string{"run", "--share", "docs=" + ro, "--share", "out=" + rw + ",rw,at=/out"}
	run := func(args ...string) result {
		return w.run(nil, "launcher", append(flags[:len(flags):len(flags)], args...)...)
	}
	if r := run(prog, "cat", "/mnt/docs/file"); r.code != 0 || r.stdout != "of the host\n" {
		t.Errorf("read: %s", r)
	}
	if r := run(prog, "write", "/out/x"); r.code != 0 {
		t.Errorf("write: %s", r)
	}
	if data, err := os.ReadFile(filepath.Join(rw, "x")); err != nil || string(data) != "x" {
		t.Errorf("what was written: %q, %v", data, err)
	}
	if r := w.run(nil, "launcher", "run", "--share", "tvix="+ro, prog, "exit", "0"); r.code != 1 || !strings.Contains(r.stderr, "tvix is there twice") {
		t.Errorf("the store's tag: %s", r)
	}
}

// TestPublish connects to a program in a guest through a published port.
func TestPublish(t *testing.T) {
	needVM(t)
	if !everyVM() {
		t.Skip("SKIP: the monitor's own tests stand for it; STOREBOOT_VM_TESTS=all connects to a guest")
	}
	w := newWorld(t)
	prog := w.addGuestProg() + "/bin/guestprog"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	name := strings.TrimSpace(w.must("launcher", "run", "--detach", "--publish", port+":80", prog, "serve", "10.0.2.15/24", "80"))
	w.endVM(name)
	for deadline := time.Now().Add(bootLimit); ; time.Sleep(200 * time.Millisecond) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			got := make([]byte, 16)
			n, _ := conn.Read(got)
			_ = conn.Close()
			if string(got[:n]) == "served\n" {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody serves: %v; %s", err, w.must("launcher", "logs", name))
		}
	}
}

// TestManyAtOnce runs 8 VMs at the same time.
func TestManyAtOnce(t *testing.T) {
	needVM(t)
	if !everyVM() {
		t.Skip("SKIP: TestTwoAtOnce stands for it; STOREBOOT_VM_TESTS=all runs 8")
	}
	w := newWorld(t)
	prog := w.addGuestProg() + "/bin/guestprog"
	ctx, cancel := context.WithTimeout(t.Context(), 5*bootLimit)
	defer cancel()
	var cmds []*exec.Cmd
	for i := range 8 {
		c := w.command(ctx, nil, "launcher", "run", "--memory", "256M", prog, "exit", fmt.Sprint(20+i))
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, c)
	}
	for i, c := range cmds {
		_ = c.Wait()
		if c.ProcessState.ExitCode() != 20+i {
			t.Errorf("VM %d: %v", i, c.ProcessState)
		}
	}
}

// TestOriginalNames calls the launcher as the originals' scripts, with a store
// daemon of another make: ours under the original's name.
func TestOriginalNames(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	path := w.addGuestProg()
	dir := t.TempDir()
	for link, to := range map[string]string{"run-tvix-vm": "launcher", "tvix-store": "virtiofsd", "mkinitrd": "mkinitrd"} {
		if err := os.Symlink(filepath.Join(w.bin, to), filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	cmd := w.command(ctx, []string{
		"CH_CMDLINE=tvix.run=\"" + path + "/bin/guestprog exit 6\"", "PATH=" + dir + ":" + os.Getenv("PATH"),
		"BLOB_SERVICE_ADDR=file://" + w.store + "/blobs",
		"DIRECTORY_SERVICE_ADDR=sqlite://" + w.store + "/store.sqlite",
		"PATH_INFO_SERVICE_ADDR=sqlite://" + w.store + "/store.sqlite",
	}, "launcher")
	cmd.Path, cmd.Args = filepath.Join(dir, "run-tvix-vm"), []string{"run-tvix-vm"}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	_ = cmd.Run()
	if cmd.ProcessState.ExitCode() != 6 {
		t.Errorf("%v, want exit 6: %s", cmd.ProcessState, out.String())
	}
	if ctx.Err() != nil {
		t.Error("it did not end")
	}
}
