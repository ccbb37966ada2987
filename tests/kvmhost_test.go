//go:build kvm

package tests

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"storeboot/launcher/vmm"
	"storeboot/tests/nested"
)

// nestedLimit is how long all tests in a nested host may take together, unless
// -timeout is shorter.
const nestedLimit = 60 * time.Minute

// runTests runs the tests here if KVM is of use here; else in a nested host,
// which has this machine's files.
func runTests(m *testing.M) int {
	flag.Parse()
	if os.Getenv(nested.DirVariable) != "" || flag.Lookup("test.list").Value.String() != "" {
		return m.Run()
	}
	if qemu, err := exec.LookPath(vmm.QEMUName("amd64")); err == nil {
		cache, _ := os.UserCacheDir()
		p := vmm.ProbeKVM(context.Background(), &vmm.QEMU{Path: qemu}, filepath.Join(cache, "storeboot"), false)
		if p.Usable {
			return m.Run()
		}
		fmt.Printf("KVM is of no use here (%s): the tests run in a host that QEMU emulates\n", p.Why)
	}
	if what := nested.Missing(); what != "" {
		fmt.Printf("SKIP: all tests: there is no KVM, and for a nested host this machine lacks %s\n", what)
		if os.Getenv("CI") != "" {
			return 1
		}
		return 0
	}
	code, err := runNested()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return code
}

func runNested() (int, error) {
	dir, err := nested.Dir()
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return 0, err
	}
	if err := buildPrograms(bin); err != nil {
		return 0, err
	}
	// Nix is here, not there.
	hello, err := helloClosure()
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(filepath.Join(dir, "hello"), []byte(hello), 0o644); err != nil {
		return 0, err
	}
	copyHello := exec.Command(filepath.Join(bin, "virtiofsd"), "copy", "--from-nix", hello)
	copyHello.Env = append(os.Environ(), "STOREBOOT_STORE="+filepath.Join(dir, "store"))
	if out, err := copyHello.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("virtiofsd copy: %w: %s", err, out)
	}
	if err := warmCache(dir, bin); err != nil {
		return 0, err
	}
	return nested.Test(context.Background(), dir, nestedLimit)
}

// warmCache has the programs of the images that the tests want built here, where
// Go is, and not there.
func warmCache(dir, bin string) error {
	goCache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	for _, template := range []string{"store", "net"} {
		build := exec.Command(filepath.Join(bin, "mkinitrd"), "build", "--template", template, "--kernel", nested.Kernel(),
			"--compression", "none", "-o", filepath.Join(dir, "warm"))
		build.Env = append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(dir, nested.CacheDir), "GOCACHE="+strings.TrimSpace(string(goCache)))
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("mkinitrd build: %w: %s", err, out)
		}
	}
	return nil
}

// smallKernel is the kernel of the guests: that of STOREBOOT_KERNEL, best one of
// kernelconfig build's, which starts sooner; Debian's without it.
func smallKernel(t *testing.T) string {
	t.Helper()
	if k := os.Getenv("STOREBOOT_KERNEL"); k != "" {
		return k
	}
	return nested.Kernel()
}

// needCloudHypervisor skips a test that is about it, loudly.
func needCloudHypervisor(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("cloud-hypervisor"); err != nil {
		t.Skip("SKIP: cloud-hypervisor is not in $PATH: nothing of it is tested")
	}
}

// forEachMonitor tests each VMM that runs with KVM here, with the flags that choose
// it. QEMU's microvm has the fewest devices that are slow where KVM is emulated.
func forEachMonitor(t *testing.T, test func(t *testing.T, vmm string, flags []string)) {
	t.Helper()
	for _, name := range []string{"cloud-hypervisor", "qemu"} {
		t.Run(name, func(t *testing.T) {
			if name == "cloud-hypervisor" {
				needCloudHypervisor(t)
			}
			flags := []string{"--vmm", name, "--accel", "kvm", "--kernel", smallKernel(t)}
			if name == "qemu" {
				flags = append(flags, "--machine", "microvm")
			}
			test(t, name, flags)
		})
	}
}

// lastLine is the last line of s.
func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
