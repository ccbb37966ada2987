package nested

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// fsDaemon serves this machine's files to the host.
const fsDaemon = "/usr/lib/qemu/virtiofsd"

// modules are what the host needs beyond its kernel: its root, KVM, and what
// launchers want of a host.
var modules = []string{"virtio_pci", "virtiofs", "kvm_amd", "tun", "vhost_vsock"}

// Host is a host that has KVM, for one command.
type Host struct {
	Kernel string    // Debian's cloud kernel, whose modules are in /lib/modules
	CPUs   int       // 0 for 2
	Memory int       // MiB, 0 for 3072
	Out    io.Writer // what the command and the host's kernel print
}

// Missing says what this machine lacks for a host, "" for nothing.
func Missing() string {
	for tool, name := range map[string]string{"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "cpio": "cpio", "modprobe": "kmod"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " in $PATH (apt-get install " + name + ")"
		}
	}
	if _, err := os.Stat(fsDaemon); err != nil {
		return fsDaemon + " (apt-get install qemu-system-common)"
	}
	if os.Geteuid() != 0 {
		return "root, which shares its files with the host"
	}
	if Kernel() == "" {
		return "a cloud kernel in /boot (apt-get install linux-image-cloud-amd64)"
	}
	return ""
}

// Kernel is a kernel for the host, "" if there is none.
func Kernel() string {
	list, _ := filepath.Glob("/boot/vmlinuz-*-cloud-amd64")
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1]
}

// Dir makes a directory that the host sees under the same path, which /tmp is
// not.
func Dir() (string, error) { return os.MkdirTemp("/var/tmp", "storeboot-nested-") }

// Run runs a command of a shell in the host, and returns its exit status. An error
// says that there was no host, or none until the command's end.
func (h Host) Run(ctx context.Context, command string) (status int, err error) {
	dir, err := Dir()
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	initrd := filepath.Join(dir, "initrd")
	file := filepath.Join(dir, "status")
	if err := h.initrd(ctx, dir, initrd, "chroot /host /bin/sh -c "+quote("( "+command+"\n); echo $? >"+file+"; sync")); err != nil {
		return 0, err
	}
	// The children's death signals are tied to this thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	socket := filepath.Join(dir, "fs")
	var fsLog bytes.Buffer
	// Its end is that of the connection; the context is for a VM that never connects.
	fs := exec.CommandContext(ctx, fsDaemon, "--socket-path="+socket, "-o", "source=/", "-o", "sandbox=chroot")
	fs.Stdout, fs.Stderr, fs.SysProcAttr = &fsLog, &fsLog, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := fs.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = fs.Process.Kill()
		_ = fs.Wait()
	}()
	if err := waitSocket(ctx, socket); err != nil {
		return 0, fmt.Errorf("%s: %w: %s", fsDaemon, err, &fsLog)
	}
	vm := exec.CommandContext(ctx, "qemu-system-x86_64", h.arguments(initrd, socket)...)
	vm.Stdout, vm.Stderr, vm.SysProcAttr = h.Out, h.Out, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := vm.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return 0, fmt.Errorf("nested host: %w", err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, errors.New("nested host: it ended before the command did")
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

func (h Host) arguments(initrd, socket string) []string {
	cpus, memory := h.CPUs, h.Memory
	if cpus == 0 {
		cpus = 2
	}
	if memory == 0 {
		memory = 3072
	}
	return []string{"-M", "q35,memory-backend=mem", "-accel", "tcg,thread=multi", "-cpu", "EPYC,+svm",
		"-smp", strconv.Itoa(cpus), "-m", strconv.Itoa(memory), "-object", fmt.Sprintf("memory-backend-memfd,id=mem,size=%dM,share=on", memory),
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-kernel", h.Kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet loglevel=1 no_timer_check",
		"-chardev", "socket,id=host,path=" + socket, "-device", "vhost-user-fs-pci,chardev=host,tag=host,queue-size=512"}
}

// initrd makes one whose init does the command once the host's files are there.
func (h Host) initrd(ctx context.Context, dir, out, command string) error {
	root := filepath.Join(dir, "root")
	for _, d := range []string{"bin", "dev", "proc", "sys", "host", "m"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	if err := copyFile(busybox, filepath.Join(root, "bin/busybox")); err != nil {
		return err
	}
	var load strings.Builder
	loaded := map[string]bool{}
	release := strings.TrimPrefix(filepath.Base(h.Kernel), "vmlinuz-")
	for _, module := range modules {
		deps, err := exec.CommandContext(ctx, "modprobe", "--show-depends", "-S", release, module).Output()
		if err != nil {
			return fmt.Errorf("modprobe --show-depends %s: %w", module, err)
		}
		for _, m := range regexp.MustCompile(`(?m)^insmod (\S+)`).FindAllSubmatch(deps, -1) {
			path := string(m[1])
			if loaded[path] {
				continue
			}
			loaded[path] = true
			if err := copyFile(path, filepath.Join(root, "m", filepath.Base(path))); err != nil {
				return err
			}
			load.WriteString("insmod /m/" + filepath.Base(path) + "\n")
		}
	}
	script := `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts pts /dev/pts; mount -t tmpfs shm /dev/shm
ifconfig lo 127.0.0.1 up
` + load.String() + `
mount -t virtiofs host /host && mount -t tmpfs tmp /host/tmp && mount -t tmpfs run /host/run &&
mount -t proc proc /host/proc && mount -t sysfs sys /host/sys && mount --rbind /dev /host/dev
` + command + `
poweroff -f
`
	if err := os.WriteFile(filepath.Join(root, "init"), []byte(script), 0o755); err != nil {
		return err
	}
	pack := exec.CommandContext(ctx, "/bin/sh", "-c", "find . | cpio -o -H newc --quiet >"+out)
	pack.Dir = root
	if text, err := pack.CombinedOutput(); err != nil {
		return fmt.Errorf("cpio: %w: %s", err, text)
	}
	return nil
}

// waitSocket waits until the daemon has made its socket.
func waitSocket(ctx context.Context, path string) error {
	for range 600 {
		if st, err := os.Stat(path); err == nil && st.Mode()&os.ModeSocket != 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return errors.New("no socket after 30 s")
}

// quote makes s one word of a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o755)
}
