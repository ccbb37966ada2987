package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storeboot/internal/kernelimage"
)

// arm64Kernel is the kernel that tests/arm64-kernel unpacks.
func arm64Kernel(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("STOREBOOT_ARM64_KERNEL")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "storeboot/arm64-kernel")
	}
	kernels, _ := filepath.Glob(filepath.Join(dir, "root/boot/vmlinuz-*"))
	if _, err := os.Stat(filepath.Join(dir, "done")); err != nil || len(kernels) != 1 {
		t.Skip("SKIP: there is no arm64 kernel: unpack one with tests/arm64-kernel (needs the network; 20 s)")
	}
	return kernels[0]
}

// TestArm64 boots arm64 guests, emulated, from what is built for them here: the
// initrd with its modules and an init of their architecture, and a static program
// from the store.
func TestArm64(t *testing.T) {
	if !everyVM() {
		t.Skip("SKIP: emulating another architecture is slow; STOREBOOT_VM_TESTS=all runs it")
	}
	kernel := arm64Kernel(t)
	if img, err := kernelimage.Open(kernel); err != nil || img.Arch != "arm64" {
		t.Fatalf("%s is no kernel for arm64: %+v, %v", kernel, img, err)
	}
	_, err := exec.LookPath("qemu-system-aarch64")
	need(t, err == nil, "qemu-system-aarch64 (apt-get install qemu-system-arm)")
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "guestprog")
	build := exec.Command("go", "build", "-o", file, "storeboot/tests/guestprog")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	path := w.addProgram(file)
	prog := path + "/bin/guestprog"
	for _, tt := range []struct {
		name string
		args []string
		code int
		has  string
	}{
		{"program", []string{"run", "--kernel", kernel, prog, "args", "a b"}, 0, `"a b"`},
		{"two CPUs and an exit status", []string{"run", "--kernel", kernel, "--cpus", "2", prog, "exit", "3"}, 3, ""},
		{"missing program", []string{"run", "--kernel", kernel, path + "/bin/none"}, 127, "bin/none"},
		{"system", []string{"boot", "--kernel", kernel, path + "/init", "--", "one"}, 0, "system: mount /nix/store virtiofs ro"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := w.run(nil, "launcher", tt.args...)
			if r.code != tt.code || !strings.Contains(r.stdout+r.stderr, tt.has) {
				t.Errorf("want exit %d and %q: %s", tt.code, tt.has, r)
			}
		})
	}
	t.Run("KVM", func(t *testing.T) {
		if r := w.run(nil, "launcher", "run", "--accel", "kvm", "--kernel", kernel, prog); r.code != 1 || !strings.Contains(r.stderr, "arm64") {
			t.Errorf("want an error: %s", r)
		}
	})
}
