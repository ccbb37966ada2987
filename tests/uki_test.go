package tests

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUKI boots a unified kernel image as a machine does: UEFI firmware, which
// finds it on an EFI system partition, made without root. It is slow, since the
// firmware is emulated too, and so:
//
//	STOREBOOT_VM_TESTS=all go test ./tests -run TestUKI
func TestUKI(t *testing.T) {
	if os.Getenv("STOREBOOT_VM_TESTS") != "all" {
		t.Skip("SKIP: boots UEFI firmware without KVM: STOREBOOT_VM_TESTS=all runs it")
	}
	needVM(t)
	kernel := cloudKernel(t)
	const code, vars, stub = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
	for file, name := range map[string]string{code: "ovmf", stub: "systemd-boot-efi", "/usr/bin/mcopy": "mtools"} {
		_, err := os.Stat(file)
		need(t, err == nil, file+" (apt-get install "+name+")")
	}
	w := newWorld(t)
	dir := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "MTOOLS_SKIP_CHECK=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	image, esp, listinit := filepath.Join(dir, "linux.efi"), filepath.Join(dir, "esp"), filepath.Join(dir, "listinit")
	run("go", "build", "-trimpath", "-ldflags=-s -w", "-o", listinit, "./listinit")
	w.must("mkinitrd", "build", "--uki", "--kernel", kernel, "--init", listinit,
		"--cmdline", "console=ttyS0 panic=-1 reboot=t no_timer_check storeboot.test=uki", "-o", image)
	if err := os.WriteFile(esp, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(esp, 64<<20); err != nil {
		t.Fatal(err)
	}
	run("mformat", "-i", esp, "-F", "::")
	run("mmd", "-i", esp, "::/EFI", "::/EFI/BOOT")
	run("mcopy", "-i", esp, image, "::/EFI/BOOT/BOOTX64.EFI")
	data, err := os.ReadFile(vars)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vars"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 12*bootLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-M", "q35,vmport=off", "-m", "512",
		"-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+code, "-drive", "if=pflash,format=raw,unit=1,file="+filepath.Join(dir, "vars"),
		"-drive", "if=none,id=esp,format=raw,readonly=on,file="+esp, "-device", "virtio-blk-pci,drive=esp,bootindex=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("qemu: %v\n%s", err, out.String())
	}
	console := out.String()
	for _, want := range []string{"storeboot.test=uki", "\nBEGIN", `"/etc/storeboot/boot.json" 100644 0:0`, "/virtiofs.ko\" 100644", "\nEND"} {
		if !strings.Contains(console, want) {
			t.Errorf("the console lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(console)
	}
}
