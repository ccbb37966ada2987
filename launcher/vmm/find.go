package vmm

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Choice is which monitor, accelerator and machine type to use; empty fields and
// "auto" leave it to [Find].
type Choice struct {
	VMM     string // auto, qemu, cloud-hypervisor
	Accel   string // auto, kvm, tcg
	Machine string // auto, q35, microvm, virt
}

// Check says whether the words of c exist and fit together.
func (c Choice) Check() error {
	if !oneOf(c.VMM, "", "auto", "qemu", "cloud-hypervisor") {
		return fmt.Errorf("--vmm %s: there are auto, qemu and cloud-hypervisor", c.VMM)
	}
	if !oneOf(c.Accel, "", "auto", "kvm", "tcg") {
		return fmt.Errorf("--accel %s: there are auto, kvm and tcg", c.Accel)
	}
	if !oneOf(c.Machine, "", "auto", string(Q35), string(MicroVM), string(Virt)) {
		return fmt.Errorf("--machine %s: there are auto, q35, microvm and virt", c.Machine)
	}
	if c.VMM == "cloud-hypervisor" && c.Accel == "tcg" {
		return errors.New("--vmm cloud-hypervisor needs KVM: it excludes --accel tcg (use --vmm qemu)")
	}
	if c.VMM == "cloud-hypervisor" && c.Board() != "" {
		return fmt.Errorf("--machine %s is QEMU's: it excludes --vmm cloud-hypervisor", c.Machine)
	}
	return nil
}

// Board is the machine type that was asked for, "" for none.
func (c Choice) Board() Board {
	if c.Machine == "auto" {
		return ""
	}
	return Board(c.Machine)
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
	Arch     string                       // as GOARCH
	LookPath func(string) (string, error) // as exec.LookPath
	// Probe is ProbeKVM, patient where KVM was asked for.
	Probe func(ctx context.Context, q *QEMU, patient bool) Probe
}

// NewHost is this machine; answers are kept in the directory cache.
func NewHost(arch, cache string) Host {
	return Host{Arch: arch, LookPath: exec.LookPath, Probe: func(ctx context.Context, q *QEMU, patient bool) Probe {
		return ProbeKVM(ctx, q, cache, patient)
	}}
}

// Found is the answer of [Find].
type Found struct {
	Hypervisor Hypervisor
	Accel      Accel
	Why        string // this one, for a person
}

// Find chooses a monitor for guests of the architecture arch: cloud-hypervisor
// where it and a usable KVM are, else QEMU with KVM, else QEMU with TCG.
// needQEMU says what of the VM only QEMU can do, "" for nothing.
func Find(ctx context.Context, h Host, c Choice, arch, needQEMU string) (Found, error) {
	if err := c.Check(); err != nil {
		return Found{}, err
	}
	qemuName := QEMUName(arch)
	qemuPath, qemuErr := h.LookPath(qemuName)
	chPath, chErr := h.LookPath("cloud-hypervisor")
	foreign := arch != h.Arch
	mayCH := chErr == nil && c.VMM != "qemu" && c.Accel != "tcg" && c.Board() == "" && !foreign
	switch {
	case c.VMM == "cloud-hypervisor" && chErr != nil:
		return Found{}, errors.New("cloud-hypervisor is not in $PATH: install it, or use --vmm qemu")
	case foreign && (c.VMM == "cloud-hypervisor" || c.Accel == "kvm"):
		return Found{}, fmt.Errorf("KVM runs no guests of %s on %s (use --vmm qemu --accel tcg)", arch, h.Arch)
	case qemuErr != nil && !mayCH:
		return Found{}, fmt.Errorf("%s is not in $PATH: apt-get install %s", qemuName, qemuPackage(arch))
	}
	q := &QEMU{Path: qemuPath}
	switch {
	case c.Accel == "tcg":
		return Found{q, TCG, "as --accel says"}, nil
	case foreign:
		return Found{q, TCG, "the guest is " + arch + ", this machine " + h.Arch}, nil
	}
	needKVM := c.Accel == "kvm" || c.VMM == "cloud-hypervisor"
	// Without QEMU there is nothing to try with but cloud-hypervisor itself.
	kvm := Probe{Usable: true}
	if qemuErr == nil {
		kvm = h.Probe(ctx, q, needKVM)
		if err := ctx.Err(); err != nil {
			return Found{}, err
		}
	}
	switch {
	case !kvm.Usable && needKVM:
		return Found{}, fmt.Errorf("KVM is of no use here: %s (use --vmm qemu --accel tcg)", strings.TrimSuffix(kvm.Why, "."))
	case !kvm.Usable:
		return Found{q, TCG, "KVM is of no use: " + kvm.Why}, nil
	case c.VMM == "cloud-hypervisor":
		return Found{&CloudHypervisor{Path: chPath}, KVM, "as --vmm says"}, nil
	case mayCH && qemuErr != nil:
		return Found{&CloudHypervisor{Path: chPath}, KVM, "there is no " + qemuName}, nil
	case mayCH && needQEMU == "":
		return Found{&CloudHypervisor{Path: chPath}, KVM, "KVM works, and it starts sooner than QEMU"}, nil
	}
	why := "KVM works, and there is no cloud-hypervisor"
	switch {
	case c.VMM == "qemu":
		why = "as --vmm says; KVM works"
	case c.Board() != "":
		why = "as --machine says; KVM works"
	case mayCH:
		why = "KVM works, but cloud-hypervisor has no " + needQEMU
	}
	return Found{q, KVM, why}, nil
}

func qemuPackage(arch string) string {
	if arch == "arm64" {
		return "qemu-system-arm"
	}
	return "qemu-system-x86"
}
