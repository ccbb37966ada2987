package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"storeboot/templates"
)

// BenchmarkPeers builds images side by side with the builders that this machine
// has, warm, and reports the bytes of each:
//
//	go test -run XXX -bench Peers -benchtime 3x ./mkinitrd
//
// mkuimage is given the commands of the template shell; the others make what
// they make, for the same kernel. The floor is a copy of our image. cpu-ms is
// the time of the processors, which says more than the other on a busy machine.
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
	config := filepath.Join(dir, "booster.yaml")
	if err := os.WriteFile(config, nil, 0o644); err != nil {
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
		{"floor-store", []string{"cp", filepath.Join(dir, "mkinitrd-store"), "OUT"}},
		{"floor-shell", []string{"cp", filepath.Join(dir, "mkinitrd-shell"), "OUT"}},
		{"mkuimage", append([]string{"mkuimage", "-o", "OUT", "-initcmd=", "-defaultsh="}, shellCommands(b)...)},
		{"booster", []string{"booster", "build", "--force", "--universal", "--config", config, "--kernel-version", version, "OUT"}},
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
			memory, cpu := int64(0), time.Duration(0)
			one := func() {
				cmd := exec.Command(args[0], args[1:]...)
				cmd.Env = append(os.Environ(), "STOREBOOT_SOURCE="+root)
				if said, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, said)
				}
				memory = max(memory, peakMemory(cmd.ProcessState))
				cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			}
			one() // warm
			cpu = 0
			for b.Loop() {
				one()
			}
			st, err := os.Stat(out)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(cpu.Seconds()*1000/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(st.Size()), "bytes")
			b.ReportMetric(float64(memory)/1024, "MiB-peak")
		})
	}
}

// shellCommands are the import paths of u-root's commands in the template shell.
func shellCommands(b *testing.B) []string {
	t, err := templates.Builtin("shell")
	if err != nil {
		b.Fatal(err)
	}
	var out []string
	for _, c := range t.Commands {
		if _, own := ownCommands[c.Name]; !own {
			out = append(out, "github.com/u-root/u-root/cmds/core/"+c.Name)
		}
	}
	return out
}

// peakMemory is how much memory the process had at most, in KiB.
func peakMemory(s *os.ProcessState) int64 {
	if usage, ok := s.SysUsage().(*syscall.Rusage); ok {
		return usage.Maxrss
	}
	return 0
}
