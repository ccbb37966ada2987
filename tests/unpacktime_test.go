package tests

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// BenchmarkUnpack boots the same image in every compression, and reports how
// long the guest's kernel takes to unpack it, beside the size in the file:
//
//	go test ./tests -run '^$' -bench BenchmarkUnpack -benchtime 1x -timeout 60m
//
// The guest's clock counts the instructions of its processor, a nanosecond each
// (QEMU's -icount), so that the figures do not depend on this machine or on
// what else it does, and one boot is enough. STOREBOOT_TEMPLATE names another
// template than shell.
func BenchmarkUnpack(b *testing.B) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		b.Skip("SKIP: this machine lacks qemu-system-x86_64 (apt-get install qemu-system-x86)")
	}
	kernels, _ := filepath.Glob("/boot/vmlinuz-*-cloud-*")
	if len(kernels) == 0 {
		b.Skip("SKIP: this machine lacks a cloud kernel (apt-get install linux-image-cloud-amd64)")
	}
	bin, err := programs()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	init := filepath.Join(dir, "listinit")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", init, "./listinit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	template := os.Getenv("STOREBOOT_TEMPLATE")
	if template == "" {
		template = "shell"
	}
	for _, codec := range []string{"none", "lz4", "zstd", "gzip", "xz"} {
		b.Run(codec, func(b *testing.B) {
			image := filepath.Join(dir, codec)
			cmd := exec.Command(filepath.Join(bin, "mkinitrd"), "build", "-t", template, "-k", kernels[0], "--init", init, "-c", codec, "-o", image)
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
			st, err := os.Stat(image)
			if err != nil {
				b.Fatal(err)
			}
			total := 0.0
			for b.Loop() {
				ms, err := unpackTime(b.Context(), kernels[0], image)
				if err != nil {
					b.Fatal(err)
				}
				total += ms
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(total/float64(b.N), "guest-ms")
			b.ReportMetric(float64(st.Size()), "bytes")
		})
	}
}

var unpackMarks = regexp.MustCompile(`(?s)\[ *(\d+\.\d+)\] Trying to unpack rootfs image as initramfs.*\[ *(\d+\.\d+)\] Freeing initrd memory`)

// unpackTime is how long the guest's kernel is at unpacking, in milliseconds of
// its clock.
func unpackTime(ctx context.Context, kernel, image string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 8*bootLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-icount", "shift=0,sleep=off", "-cpu", "max",
		"-M", "q35,usb=off,sata=off,smbus=off,vmport=off", "-m", "512", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", kernel, "-initrd", image, "-append", "console=ttyS0 panic=-1 reboot=t nokaslr no_timer_check initramfs_async=0 printk.time=1").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("qemu: %w: %s", err, out)
	}
	m := unpackMarks.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("the console does not say when it was unpacked: %s", out)
	}
	from, err1 := strconv.ParseFloat(string(m[1]), 64)
	to, err2 := strconv.ParseFloat(string(m[2]), 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("times %q and %q", m[1], m[2])
	}
	return (to - from) * 1000, nil
}
