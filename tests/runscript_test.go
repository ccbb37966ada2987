package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// originalStore is the store program of the original in $PATH, which is ours
// under its name.
type originalStore struct {
	w    *world
	name string   // tvix-store or snix-store
	path string   // a $PATH in which it comes first
	env  []string // the addresses of the daemon
}

// linkOriginalStore puts our program into a $PATH under the name.
func (w *world) linkOriginalStore(name string) *originalStore {
	w.t.Helper()
	dir := w.t.TempDir()
	if err := os.Symlink(filepath.Join(w.bin, "virtiofsd"), filepath.Join(dir, name)); err != nil {
		w.t.Fatal(err)
	}
	return &originalStore{w: w, name: name, path: dir + ":" + os.Getenv("PATH")}
}

// newOriginalStore starts the daemon with the addresses of its services in the
// environment, as the original's tests do.
func (w *world) newOriginalStore(name string) *originalStore {
	w.t.Helper()
	s := w.linkOriginalStore(name)
	socket := filepath.Join(w.runtime, "daemon")
	d := s.start([]string{
		"BLOB_SERVICE_ADDR=objectstore+file://" + w.store + "/blobs",
		"DIRECTORY_SERVICE_ADDR=redb://" + w.store + "/directories.redb",
		"PATH_INFO_SERVICE_ADDR=redb://" + w.store + "/pathinfo.redb",
	}, "daemon", "-l", socket)
	w.t.Cleanup(func() {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		d.wait(w.t)
	})
	waitSocket(w.t, socket)
	for _, service := range []string{"BLOB", "DIRECTORY", "PATH_INFO"} {
		s.env = append(s.env, service+"_SERVICE_ADDR=grpc+unix://"+socket)
	}
	return s
}

// background is a program that runs beside the test.
type background struct {
	cmd   *exec.Cmd
	out   bytes.Buffer
	ended chan error
}

// command is the store program found in $PATH.
func (s *originalStore) command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/usr/bin/env", append([]string{s.name, "--otlp=false"}, args...)...)
	cmd.Env = append(append(os.Environ(), "PATH="+s.path), env...)
	return cmd
}

func (s *originalStore) start(env []string, args ...string) *background {
	s.w.t.Helper()
	b := &background{cmd: s.command(context.Background(), env, args...), ended: make(chan error, 1)}
	b.cmd.Stdout, b.cmd.Stderr = &b.out, &b.out
	if err := b.cmd.Start(); err != nil {
		s.w.t.Fatal(err)
	}
	go func() { b.ended <- b.cmd.Wait() }()
	return b
}

// wait waits for the end, which has to be a success.
func (b *background) wait(t *testing.T) {
	t.Helper()
	select {
	case err := <-b.ended:
		if err != nil {
			t.Errorf("%q: %v\n%s", b.cmd.Args, err, &b.out)
		}
	case <-time.After(20 * time.Second):
		_ = b.cmd.Process.Kill()
		<-b.ended
		t.Errorf("%q does not end\n%s", b.cmd.Args, &b.out)
	}
}

// must runs a subcommand to its end and returns its output.
func (s *originalStore) must(stdin string, args ...string) string {
	s.w.t.Helper()
	ctx, cancel := context.WithTimeout(s.w.t.Context(), bootLimit)
	defer cancel()
	cmd := s.command(ctx, s.env, args...)
	var errOut bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), &errOut
	out, err := cmd.Output()
	if err != nil {
		s.w.t.Fatalf("%s %q: %v\n%s", s.name, args, err, &errOut)
	}
	return strings.TrimSpace(string(out))
}

// waitSocket waits for somebody to listen. Looking at the file, as the original
// does, is not enough: it may be there before anybody listens.
func waitSocket(t *testing.T, path string) {
	t.Helper()
	for range 300 {
		if c, err := net.Dial("unix", path); err == nil {
			_ = c.Close()
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("nobody listens at %s", path)
}

// pollSocket waits as the original does: a connection would be the VM's.
func pollSocket(t *testing.T, path string) {
	t.Helper()
	for range 300 {
		if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("there is no socket %s", path)
}

// closureJSON describes a closure of the local Nix store as a builder with
// structured attributes gets it.
func closureJSON(t *testing.T, path string) string {
	t.Helper()
	cmd := exec.Command("nix", "--extra-experimental-features", "nix-command", "path-info", "--json", "--closure-size", "--recursive", path)
	cmd.Env = append(os.Environ(), "NIX_CONFIG=build-users-group =\nsubstitute = false")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("nix path-info: %v", err)
	}
	b, err := json.Marshal(map[string]json.RawMessage{"closure": out})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// scriptKernel is the machine's kernel, and an initrd of ours for it.
func (w *world) scriptKernel() (kernel, initrd string) {
	w.t.Helper()
	kernels, _ := filepath.Glob("/boot/vmlinuz-*-cloud-*")
	need(w.t, len(kernels) > 0, "a cloud kernel in /boot (apt-get install linux-image-cloud-amd64)")
	initrd = filepath.Join(w.t.TempDir(), "initrd")
	w.must("mkinitrd", "build", "--template", "store", "--kernel", kernels[0], "-o", initrd)
	return kernels[0], initrd
}

// TestRunScript does what the original's script and its tests do
// (spec/store.md 5.4 and 5.6), step by step and with the same command lines:
// a daemon, import or copy, one virtiofs daemon for each VM, and the VMM. QEMU
// stands for cloud-hypervisor, which needs KVM (tests/peers has that one).
func TestRunScript(t *testing.T) {
	needVM(t)
	for _, tt := range []struct{ name, tag string }{{"tvix-store", "tvix"}, {"snix-store", "snix"}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			hello := w.addHello() // builds it in the Nix store
			kernel, initrd := w.scriptKernel()
			s := w.newOriginalStore(tt.name)
			docs := filepath.Join(t.TempDir(), "docs")
			if err := os.CopyFS(docs, os.DirFS("guestprog")); err != nil {
				t.Fatal(err)
			}
			imported := s.must("", "import", docs)
			if again := s.must("", "import", docs); again != imported || !strings.HasSuffix(imported, "-docs") {
				t.Errorf("import prints %q, then %q", imported, again)
			}
			s.must(closureJSON(t, hello), "copy", "-")
			for _, run := range []struct{ cmdline, has string }{
				{tt.tag + ".find", imported},
				{tt.tag + ".run=" + hello + "/bin/hello", "Hello, world!"},
			} {
				socket := filepath.Join(w.runtime, tt.tag+".sock")
				fs := s.start(s.env, "virtiofs", "-l", socket)
				pollSocket(t, socket)
				ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
				vmm := exec.CommandContext(ctx, "qemu-system-x86_64",
					"-M", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "512M",
					"-object", "memory-backend-memfd,id=mem,size=512M,share=on", "-machine", "memory-backend=mem",
					"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
					// no_timer_check: an emulated timer on a busy machine fails the check.
					"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 no_timer_check "+run.cmdline,
					"-chardev", "socket,id=fs,path="+socket, "-device", "vhost-user-fs-pci,chardev=fs,queue-size=512,tag="+tt.tag)
				out, err := vmm.CombinedOutput()
				cancel()
				if err != nil || !bytes.Contains(out, []byte(run.has)) {
					t.Errorf("%s: %v: no %q in:\n%s", run.cmdline, err, run.has, out)
				}
				fs.wait(t) // it ends with its VM
				if _, err := os.Lstat(socket); err == nil {
					t.Errorf("%s: the socket is left", run.cmdline)
				}
			}
		})
	}
}
