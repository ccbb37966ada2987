package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// BenchmarkPeers builds images side by side with the builders that this machine
// has, warm, and reports the bytes of each:
//
//	go test -run XXX -bench Peers -benchtime 3x ./mkinitrd
//
// mkuimage is given the commands of the template shell; the others make what
// they make, for the same kernel.
func BenchmarkPeers(b *testing.B) {
	kernels, _ := filepath.Glob("/boot/vmlinuz-*-cloud-*")
	if len(kernels) == 0 {
		b.Skip("SKIP: this machine lacks a cloud kernel (apt-get install linux-image-cloud-amd64)")
	}
	kernel := kernels[0]
	version := strings.TrimPrefix(filepath.Base(kernel), "vmlinuz-")
	dir := b.TempDir()
	ours := filepath.Join(dir, "mkinitrd")
	build := exec.Command("go", "build", "-o", ours, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v: %s", err, out)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		b.Fatal(err)
	}
	for _, peer := range []struct {
		name string
		args []string
	}{
		{"mkinitrd-store", []string{ours, "build", "--template", "store", "--kernel", kernel, "-o", "OUT"}},
		{"mkinitrd-store-none", []string{ours, "build", "--template", "store", "--kernel", kernel, "--compression", "none", "-o", "OUT"}},
		{"mkinitrd-shell", []string{ours, "build", "--template", "shell", "--kernel", kernel, "-o", "OUT"}},
		{"mkinitrd-shell-none", []string{ours, "build", "--template", "shell", "--kernel", kernel, "--compression", "none", "-o", "OUT"}},
		{"mkuimage", []string{"mkuimage", "-o", "OUT", "github.com/u-root/u-root/cmds/core/*"}},
		{"booster", []string{"booster", "build", "--kernel-version", version, "OUT"}},
		{"dracut", []string{"dracut", "--force", "--no-hostonly", "OUT", version}},
		{"mkinitramfs", []string{"mkinitramfs", "-o", "OUT", version}},
	} {
		b.Run(peer.name, func(b *testing.B) {
			if _, err := exec.LookPath(peer.args[0]); err != nil {
				b.Skipf("SKIP: this machine lacks %s", peer.args[0])
			}
			out := filepath.Join(dir, peer.name)
			args := append([]string(nil), peer.args...)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "OUT", out)
			}
			memory := int64(0)
			one := func() {
				cmd := exec.Command(args[0], args[1:]...)
				cmd.Env = append(os.Environ(), "STOREBOOT_SOURCE="+root)
				if said, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, said)
				}
				memory = max(memory, peakMemory(cmd.ProcessState))
			}
			one() // warm
			for b.Loop() {
				one()
			}
			st, err := os.Stat(out)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(st.Size()), "bytes")
			b.ReportMetric(float64(memory)/1024, "MiB-peak")
		})
	}
}

// peakMemory is how much memory the process had at most, in KiB.
func peakMemory(s *os.ProcessState) int64 {
	if usage, ok := s.SysUsage().(*syscall.Rusage); ok {
		return usage.Maxrss
	}
	return 0
}
