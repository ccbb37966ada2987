//go:build peers

package peers

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// nestedLimit is how long the test in the nested VM may take; it takes about a
// minute on an idle machine.
const nestedLimit = 8 * time.Minute

// TestCloudHypervisor does what the original's script does, down to
// cloud-hypervisor's command line, with our program under the original's names;
// but for mergeable=on beside shared=on, which cloud-hypervisor now refuses.
// cloud-hypervisor needs a KVM that takes an ordinary kernel, which a machine for
// tests seldom has: it runs in a VM of QEMU's, which emulates AMD's SVM, on this
// machine's own files.
func TestCloudHypervisor(t *testing.T) {
	for _, tool := range []string{"cloud-hypervisor", "qemu-system-x86_64", "busybox", "cpio", "modprobe"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIP: %s is not in $PATH", tool)
		}
	}
	const fsDaemon = "/usr/lib/qemu/virtiofsd"
	if _, err := os.Stat(fsDaemon); err != nil || os.Geteuid() != 0 {
		t.Skip("SKIP: this test needs root and " + fsDaemon + " (apt-get install qemu-system-common)")
	}
	kernels, _ := filepath.Glob("/boot/vmlinuz-*-cloud-amd64")
	if len(kernels) == 0 {
		t.Skip("SKIP: there is no cloud kernel in /boot (apt-get install linux-image-cloud-amd64)")
	}
	kernel, closure := kernels[0], hello(t)

	// The nested machine sees these; it has a /tmp of its own.
	dir, err := os.MkdirTemp("/var/tmp", "storeboot-peers-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	initrd := filepath.Join(dir, "initrd")
	run(t, nil, "", ours(t, "mkinitrd"), "build", "--template", "store", "--kernel", kernel, "-o", initrd)
	program, err := os.ReadFile(ours(t, "virtiofsd"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, content string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("virtiofsd", string(program), 0o755)
	for _, name := range peerNames {
		if err := os.Symlink("virtiofsd", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("closure.json", closureJSON(t, closure), 0o644)
	write("script", strings.NewReplacer("@DIR@", dir, "@KERNEL@", kernel, "@INITRD@", initrd, "@CLOSURE@", closure).Replace(`
export PATH=@DIR@:/usr/local/bin:/usr/bin:/bin
mkdir -p /tmp/w && cd /tmp/w
wait_for() { n=0; while ! test -e "$1" && test $n -lt 600; do sleep 0.1; n=$((n+1)); done; }
boot() { # STORE-PROGRAM TAG COMMAND-LINE
	rm -f /tmp/w/$2.sock
	$1 --otlp=false virtiofs -l /tmp/w/$2.sock &
	fs=$!
	wait_for /tmp/w/$2.sock
	cloud-hypervisor \
		--cpus boot=1 --memory shared=on,size=512M \
		--console null --serial tty \
		--kernel @KERNEL@ --initramfs @INITRD@ \
		--cmdline "console=ttyS0 $3" \
		--fs tag=$2,socket=/tmp/w/$2.sock,num_queues=1,queue_size=512
	status=$?
	echo "vmm $2 ended: $status"
	test $status = 0 || kill $fs
	wait $fs
	echo "virtiofs $2 ended: $?"
}
export BLOB_SERVICE_ADDR=memory:// DIRECTORY_SERVICE_ADDR=memory:// PATH_INFO_SERVICE_ADDR=memory://
tvix-store --otlp=false daemon -l /tmp/w/daemon &
wait_for /tmp/w/daemon
export BLOB_SERVICE_ADDR=grpc+unix:///tmp/w/daemon DIRECTORY_SERVICE_ADDR=grpc+unix:///tmp/w/daemon PATH_INFO_SERVICE_ADDR=grpc+unix:///tmp/w/daemon
snix-store --otlp=false import @DIR@/closure.json
snix-store --otlp=false copy @DIR@/closure.json
boot tvix-store tvix tvix.find
boot snix-store snix "snix.run=@CLOSURE@/bin/hello"
echo script done
`), 0o644)

	out := nested(t, kernel, "/bin/sh "+filepath.Join(dir, "script"), fsDaemon)
	for _, want := range []string{
		closure + "/bin/hello", "-closure.json", "Hello, world!",
		"vmm tvix ended: 0", "virtiofs tvix ended: 0", "vmm snix ended: 0", "virtiofs snix ended: 0", "script done",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the output", want)
		}
	}
	if t.Failed() {
		t.Logf("output:\n%s", out)
	}
}

// nested runs a shell command on this machine's files in a VM that has KVM, and
// returns what it and the kernel print.
func nested(t *testing.T, kernel, command, fsDaemon string) string {
	t.Helper()
	root := t.TempDir()
	for _, d := range []string{"bin", "dev", "proc", "sys", "host", "m"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	var load strings.Builder
	loaded := map[string]bool{}
	version := strings.TrimPrefix(filepath.Base(kernel), "vmlinuz-")
	for _, module := range []string{"virtio_pci", "virtiofs", "kvm_amd"} {
		deps := run(t, nil, "", "modprobe", "--show-depends", "-S", version, module)
		for _, m := range regexp.MustCompile(`(?m)^insmod (\S+)`).FindAllStringSubmatch(deps, -1) {
			if loaded[m[1]] {
				continue
			}
			loaded[m[1]] = true
			copyFile(t, m[1], filepath.Join(root, "m", filepath.Base(m[1])))
			load.WriteString("insmod /m/" + filepath.Base(m[1]) + "\n")
		}
	}
	copyFile(t, busybox, filepath.Join(root, "bin/busybox"))
	script := `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
` + load.String() + `
mount -t virtiofs host /host && mount -t tmpfs tmp /host/tmp && mount -t tmpfs run /host/run && mount -t proc proc /host/proc && mount -t sysfs sys /host/sys && mount --bind /dev /host/dev
chroot /host ` + command + `
poweroff -f
`
	if err := os.WriteFile(filepath.Join(root, "init"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	pack := exec.Command("/bin/sh", "-c", "find . | cpio -o -H newc --quiet > "+initrd)
	pack.Dir = root
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	socket := filepath.Join(shortDir(t), "host")
	start(t, nil, socket, fsDaemon, "--socket-path="+socket, "-o", "source=/", "-o", "sandbox=chroot")
	ctx, cancel := context.WithTimeout(t.Context(), nestedLimit)
	defer cancel()
	vm := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "q35,memory-backend=mem", "-accel", "tcg,thread=multi", "-cpu", "EPYC,+svm",
		"-smp", "2", "-m", "2048", "-object", "memory-backend-memfd,id=mem,size=2048M,share=on",
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet no_timer_check",
		"-chardev", "socket,id=host,path="+socket, "-device", "vhost-user-fs-pci,chardev=host,tag=host,queue-size=512")
	var out bytes.Buffer
	vm.Stdout, vm.Stderr = &out, &out
	if err := vm.Run(); err != nil {
		t.Errorf("the VM: %v", err)
	}
	return out.String()
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}
