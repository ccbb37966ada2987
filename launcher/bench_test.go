package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkStart measures how long the launcher takes until the monitor's
// program begins, with stand-ins for all other programs, beside the floor:
// starting those stand-ins one after the other.
//
// The stand-ins say themselves when they begin, so that the end of a session is
// not measured.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "launcher"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	began := filepath.Join(dir, "began")
	for name, text := range map[string]string{
		"virtiofsd":          `[ "$1" = floor ] || { echo '{"event":"ready","time_us":1}' >&4; exec sleep 60; }`,
		"mkinitrd":           `[ "$1" = floor ] || { for out; do :; done; : >"$out"; }`,
		"qemu-system-x86_64": "date +%s%N >" + began,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	env := append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "XDG_RUNTIME_DIR="+dir)
	measure := func(b *testing.B, args ...string) {
		var total time.Duration
		for b.Loop() {
			start := time.Now()
			c := exec.Command(args[0], args[1:]...)
			c.Env = env
			_ = c.Run() // no guest, hence no success
			text, err := os.ReadFile(began)
			if err != nil {
				b.Fatal(err)
			}
			ns, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			if err := os.Remove(began); err != nil {
				b.Fatal(err)
			}
			total += time.Unix(0, ns).Sub(start)
		}
		b.ReportMetric(float64(total.Microseconds())/1000/float64(b.N), "ms-to-monitor")
	}
	b.Run("launcher", func(b *testing.B) {
		measure(b, filepath.Join(dir, "launcher"), "find", "--accel", "tcg")
	})
	b.Run("floor", func(b *testing.B) {
		measure(b, "/bin/sh", "-c", fmt.Sprintf("cd %s; ./virtiofsd floor; ./mkinitrd floor; ./qemu-system-x86_64", dir))
	})
}
