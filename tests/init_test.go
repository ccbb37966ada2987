package tests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// addInitProg takes tests/initprog into the store, and returns the program.
func (w *world) addInitProg() string {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "initprog")
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "bin")+"/", "storeboot/tests/initprog")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("go build: %v\n%s", err, out)
	}
	return strings.TrimSpace(w.must("virtiofsd", "import", dir)) + "/bin/initprog"
}

// TestInit holds what init does for a program beyond starting it.
func TestInit(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	prog := w.addInitProg()
	guest := w.addGuestProg()
	tests := []struct {
		name   string
		args   []string
		code   int
		stdout string
		stderr string
		usual  bool
	}{
		// A user of its own, in little memory.
		{"user", []string{"--user", "1000:1001,7", "--memory", "96M", prog, "id"}, 0, "1000 1001 [7]\n", "", true},
		{"writable store", []string{"--template", "nixos", "--cmdline", "tvix.store.overlay=tmpfs", guest + "/bin/guestprog", "write", guest + "/x"}, 0, "", "", true},
		{"limit", []string{"--limit", "1s", guest + "/bin/guestprog", "wait"}, 124, "waiting\n", "not done after 1s", false},
		{"SIGTERM", []string{prog, "stop", "15"}, 143, "", "stopped by a signal", false},
		{"Ctrl-Alt-Del", []string{prog, "stop", "2"}, 143, "", "stopped by Ctrl-Alt-Del", false},
		{"10,000 orphans", []string{prog, "orphans", "10000"}, 0, "reaped 10000\n", "", false},
		{"forbidden module", []string{"--cmdline", "modprobe.blacklist=virtiofs", prog, "id"}, 1, "", "this kernel has no virtiofs", false},
		{"wrong step", []string{"--cmdline", "tvix.breakpoint=stroe", prog, "id"}, 1, "", "breakpoint stroe: no such step of this boot", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !tt.usual && !everyVM() {
				t.Skip("SKIP: init's own tests stand for it; STOREBOOT_VM_TESTS=all boots it")
			}
			r := w.run(nil, "launcher", append([]string{"run"}, tt.args...)...)
			if r.code != tt.code || r.stdout != tt.stdout || !strings.Contains(r.stderr, tt.stderr) || tt.stderr == "" && r.stderr != "" {
				t.Errorf("want exit %d, %q: %s", tt.code, tt.stdout, r)
			}
		})
	}
}

// TestMuchOutput holds that nothing is lost of 50 MB that go through the
// program's console.
func TestMuchOutput(t *testing.T) {
	needVM(t)
	if !everyVM() {
		t.Skip("SKIP: TestRun stands for it with 1 MB; STOREBOOT_VM_TESTS=all runs it")
	}
	w := newWorld(t)
	prog := w.addGuestProg() + "/bin/guestprog"
	const n = 50_000_000
	r := w.run(nil, "launcher", "run", prog, "bytes", "50000000")
	if r.code != 0 || len(r.stdout) != n {
		t.Fatalf("exit %d, %d bytes, want %d; stderr %s", r.code, len(r.stdout), n, r.stderr)
	}
	for i := range n {
		if r.stdout[i] != byte(i) {
			t.Fatalf("byte %d is %d, want %d", i, r.stdout[i], byte(i))
		}
	}
}

// TestInitFailures holds what init says where the machine, the image or the
// system lacks something.
func TestInitFailures(t *testing.T) {
	needVM(t)
	if !everyVM() {
		t.Skip("SKIP: init's own tests stand for it; STOREBOOT_VM_TESTS=all boots it")
	}
	w := newWorld(t)
	guest := w.addGuestProg()
	// The same program as if it were for another machine: e_machine of the ELF
	// header is 183, AArch64.
	text, err := os.ReadFile(filepath.Join(w.bin, "guestprog"))
	if err != nil {
		t.Fatal(err)
	}
	text[18], text[19] = 183, 0
	foreign := filepath.Join(t.TempDir(), "foreign")
	if err := os.WriteFile(foreign, text, 0o755); err != nil {
		t.Fatal(err)
	}
	foreign = strings.TrimSpace(w.must("virtiofsd", "import", foreign))
	kernels, _ := filepath.Glob("/boot/vmlinuz-*-cloud-*")
	need(t, len(kernels) > 0, "a cloud kernel in /boot (apt-get install linux-image-cloud-amd64)")
	dir := t.TempDir()
	poor, poorInitrd := filepath.Join(dir, "poor.yaml"), filepath.Join(dir, "initrd")
	if err := os.WriteFile(poor, []byte("modules: [virtio_pci, virtio_console?]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.must("mkinitrd", "build", "--no-check", "--template", poor, "--kernel", kernels[0], "-o", poorInitrd)
	// A QEMU that leaves the store's device out.
	script := `#!/bin/sh
PATH=` + os.Getenv("PATH") + `
n=$#
while [ $n -gt 0 ]; do
	case "$1" in vhost-user-fs-*) set -- "$@" virtio-rng-pci ;; *) set -- "$@" "$1" ;; esac
	shift
	n=$((n - 1))
done
exec qemu-system-x86_64 "$@"
`
	if err := os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	prog := guest + "/bin/guestprog"
	tests := []struct {
		name   string
		path   string // before $PATH
		args   []string
		stderr string
	}{
		{"init that is missing", "", []string{"boot", guest + "/none"}, "init " + guest + "/none: no such file or directory"},
		{"init that is not executable", "", []string{"boot", guest + "/bin/data"}, guest + "/bin/data: not executable"},
		{"init of another architecture", "", []string{"boot", foreign}, "made for another architecture (machine 183 of elf.h)"},
		{"no store", dir, []string{"run", "--vmm", "qemu", prog, "exit", "0"}, "the machine has none: the VMM does not offer the store"},
		{"no module", "", []string{"run", "--kernel", kernels[0], "--initrd", poorInitrd, prog, "exit", "0"}, "the initrd lacks the module virtiofs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var env []string
			if tt.path != "" {
				env = append(env, "PATH="+tt.path+":"+os.Getenv("PATH"))
			}
			r := w.run(env, "launcher", tt.args...)
			if r.code != 1 || !strings.Contains(r.stderr, tt.stderr) {
				t.Errorf("want exit 1 and %q: %s", tt.stderr, r)
			}
		})
	}
}

// TestInitPerson sits at the terminal of a boot that stops on the way, and of
// one that fails.
func TestInitPerson(t *testing.T) {
	needVM(t)
	type line struct{ expect, typed string }
	tests := []struct {
		name  string
		args  []string
		lines []line
		code  int
		usual bool
	}{
		{"breakpoint, then SIGTERM", []string{"shell", "--cmdline", "tvix.breakpoint=store"}, []line{
			{"breakpoint before the step store", ""},
			{"$ ", "test -e /nix/store/*-guestprog || echo no st''ore"},
			{"no store", ""},
			{"$ ", "exit"},
			{"exit", ""},
			{"$ ", "ls -d /nix/store/*-guestprog | wc -c"},
			{"43", ""},
			{"$ ", "/bin/kill -15 1; sleep 60"},
		}, 143, true},
		{"failure", []string{"shell", "--cmdline", "tvix.tag=other"}, []line{
			{"the boot failed in the step store: mount the store: no virtio-fs device with tag other", ""},
			{"$ ", "echo he''re"},
			{"here", "exit"},
		}, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !tt.usual && !everyVM() {
				t.Skip("SKIP: init's own tests stand for it; STOREBOOT_VM_TESTS=all boots it")
			}
			w := newWorld(t)
			w.addGuestProg()
			ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
			defer cancel()
			cmd := w.command(ctx, []string{"TERM=xterm"}, "launcher", tt.args...)
			f, err := pty.Start(cmd)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			term := newTerminal(t, f)
			at := 0
			for _, l := range tt.lines {
				at = term.expect(at, l.expect)
				if l.typed != "" {
					term.typeLine(l.typed)
				}
			}
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != tt.code {
				t.Errorf("%v, want exit %d:\n%s", cmd.ProcessState, tt.code, term)
			}
		})
	}
}

// TestInitDisk boots from a root file system on a disk that its UUID names, and
// keeps the changes of the store on another.
func TestInitDisk(t *testing.T) {
	needVM(t)
	if !everyVM() {
		t.Skip("SKIP: init's own tests stand for it; STOREBOOT_VM_TESTS=all boots it")
	}
	_, err := exec.LookPath("mke2fs")
	need(t, err == nil, "mke2fs (apt-get install e2fsprogs)")
	w := newWorld(t)
	system := w.addGuestProg()
	const uuid = "00112233-4455-6677-8899-aabbccddeeff"
	make := func(args ...string) string {
		file := filepath.Join(t.TempDir(), "disk")
		if out, err := exec.Command("mke2fs", append(append([]string{"-q", "-t", "ext4"}, args...), file, "64M")...).CombinedOutput(); err != nil {
			t.Fatalf("mke2fs: %v: %s", err, out)
		}
		return file
	}
	root, changes := make("-U", uuid), make("-L", "changes")
	r := w.run(nil, "launcher", "boot", "--disk", root, "--disk", changes, "--writable-store=LABEL=changes",
		"--cmdline", "root=UUID="+uuid+" rootflags=noatime", system+"/init")
	out := strings.ReplaceAll(r.stdout, "\r\n", "\n")
	for _, want := range []string{"system: mount / ext4 rw\n", "system: mount /nix/store overlay rw\n", "system: root writable true\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q", want)
		}
	}
	if r.code != 0 || t.Failed() {
		t.Fatalf("got %s", r)
	}
	// The system's own change is on the disk.
	if out, err := exec.Command("debugfs", "-R", "stat /probe", root).CombinedOutput(); err != nil || !strings.Contains(string(out), "Type: regular") {
		t.Errorf("%v: %s", err, out)
	}
	r = w.run(nil, "launcher", "boot", "--disk", root, "--cmdline", "root=LABEL=none rootwait=1", system+"/init")
	if want := "root file system: LABEL=none: no such disk after 1s (the machine has vda (ext4 " + uuid + "))"; r.code != 1 || !strings.Contains(r.stderr, want) {
		t.Errorf("want exit 1 and %q: %s", want, r)
	}
}
