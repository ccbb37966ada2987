package vmm

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
)

// Choice is which monitor and accelerator to use; empty fields and "auto" leave
// it to [Find].
type Choice struct {
	VMM   string // auto, qemu, cloud-hypervisor
	Accel string // auto, kvm, tcg
}

// Check says whether the words of c exist.
func (c Choice) Check() error {
	if !oneOf(c.VMM, "", "auto", "qemu", "cloud-hypervisor") {
		return fmt.Errorf("--vmm %s: there are auto, qemu and cloud-hypervisor", c.VMM)
	}
	if !oneOf(c.Accel, "", "auto", "kvm", "tcg") {
		return fmt.Errorf("--accel %s: there are auto, kvm and tcg", c.Accel)
	}
	if c.VMM == "cloud-hypervisor" && c.Accel == "tcg" {
		return errors.New("--vmm cloud-hypervisor needs KVM: it excludes --accel tcg (use --vmm qemu)")
	}
	return nil
}

func oneOf(s string, list ...string) bool {
	for _, x := range list {
		if s == x {
			return true
		}
	}
	return false
}

// Host is what [Find] asks of the machine it runs on.
type Host struct {
	Arch     string                             // of the guest, as GOARCH
	Foreign  bool                               // it is not that of this machine
	LookPath func(string) (string, error)       // as exec.LookPath
	Probe    func(context.Context, *QEMU) Probe // as ProbeKVM
}

// NewHost is this machine with guests of arch; answers are kept in the directory
// cache.
func NewHost(arch, cache string) Host {
	return Host{Arch: arch, Foreign: arch != runtime.GOARCH, LookPath: exec.LookPath, Probe: func(ctx context.Context, q *QEMU) Probe { return ProbeKVM(ctx, q, cache) }}
}

// Found is the answer of [Find].
type Found struct {
	Hypervisor Hypervisor
	Accel      Accel
	Why        string // KVM is not used, "" if it is or was not asked for
}

// Find chooses a monitor: cloud-hypervisor where it and a usable KVM are, else
// QEMU with KVM, else QEMU with TCG. needInput says that something will be
// typed into the guest, which cloud-hypervisor cannot pass on.
func Find(ctx context.Context, h Host, c Choice, needInput bool) (Found, error) {
	if err := c.Check(); err != nil {
		return Found{}, err
	}
	qemuName := QEMUName(h.Arch)
	qemuPath, qemuErr := h.LookPath(qemuName)
	chPath, chErr := h.LookPath("cloud-hypervisor")
	mayCH := chErr == nil && c.VMM != "qemu" && c.Accel != "tcg" && !h.Foreign
	switch {
	case c.VMM == "cloud-hypervisor" && chErr != nil:
		return Found{}, errors.New("cloud-hypervisor is not in $PATH: install it, or use --vmm qemu")
	case qemuErr != nil && !mayCH:
		return Found{}, fmt.Errorf("%s is not in $PATH: apt-get install %s", qemuName, qemuPackage(h.Arch))
	}
	q := &QEMU{Path: qemuPath}
	if c.Accel == "tcg" {
		return Found{Hypervisor: q, Accel: TCG}, nil
	}
	// Without QEMU there is nothing to try with but cloud-hypervisor itself.
	kvm := Probe{Usable: true}
	switch {
	case h.Foreign:
		kvm = Probe{Why: "the kernel is for " + h.Arch}
	case qemuErr == nil:
		kvm = h.Probe(ctx, q)
		if err := ctx.Err(); err != nil {
			return Found{}, err
		}
	}
	needKVM := c.Accel == "kvm" || c.VMM == "cloud-hypervisor"
	switch {
	case !kvm.Usable && needKVM:
		return Found{}, fmt.Errorf("KVM is of no use here: %s (use --vmm qemu --accel tcg)", strings.TrimSuffix(kvm.Why, "."))
	case !kvm.Usable:
		return Found{Hypervisor: q, Accel: TCG, Why: kvm.Why}, nil
	case mayCH && (c.VMM == "cloud-hypervisor" || !needInput || qemuErr != nil):
		return Found{Hypervisor: &CloudHypervisor{Path: chPath}, Accel: KVM}, nil
	}
	return Found{Hypervisor: q, Accel: KVM}, nil
}

func qemuPackage(arch string) string {
	if arch == "arm64" {
		return "qemu-system-arm"
	}
	return "qemu-system-x86"
}
