package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"storeboot/internal/newc"
)

// hello is the name of the directory that is imported, and of its program.
const hello = "hello"

// prepare makes in o.dir our programs, the store with the program, and floor.img.
func prepare(ctx context.Context, o options) error {
	dir := o.dir
	if err := os.MkdirAll(filepath.Join(dir, hello, "bin"), 0o755); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", "storeboot/launcher", "storeboot/virtiofsd", "storeboot/mkinitrd",
		"storeboot/init", "storeboot/tests/bootbench")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	root, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "storeboot/tests/bootbench").Output()
	if err != nil {
		return fmt.Errorf("find the source: %w", err)
	}
	program := filepath.Join(dir, hello, "bin", hello)
	compile := exec.CommandContext(ctx, "gcc", "-O2", "-static", "-s", "-o", program, filepath.Join(string(bytes.TrimSpace(root)), "hello/hello.c"))
	for _, c := range []*exec.Cmd{build, compile} {
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w\n%s", c.Args, err, out)
		}
	}
	path, err := o.ours(ctx, "virtiofsd", "import", filepath.Join(dir, hello)).Output()
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "path"), bytes.TrimSpace(path), 0o644); err != nil {
		return err
	}
	text, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	return writeImage(filepath.Join(dir, "floor.img"), file{"dev", newc.TypeDirectory | 0o755, nil}, console, file{"init", newc.TypeRegular | 0o755, text})
}

// ours is one of our programs in o.dir, with the store there.
func (o options) ours(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(o.dir, name), args...)
	cmd.Dir = o.dir // not the source: what is installed is measured
	cmd.Env = append(os.Environ(), "STOREBOOT_STORE="+filepath.Join(o.dir, "store"))
	return cmd
}

// file is an entry of an image.
type file struct {
	name string
	mode uint32
	data []byte
}

var console = file{"dev/console", newc.TypeChar | 0o600, nil}

// writeImage writes an initrd.
func writeImage(path string, files ...file) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := newc.NewWriter(f)
	for n, x := range files {
		h := &newc.Header{Name: x.name, Mode: x.mode, Ino: uint32(n + 1), Size: int64(len(x.data))}
		if x.name == console.name {
			h.RDevMajor, h.RDevMinor = 5, 1
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(x.data); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), f.Close())
}

// findKernels are those of the flag, or the newest of this machine.
func (o options) findKernels() ([]string, error) {
	if len(o.kernels) > 0 {
		return o.kernels, nil
	}
	found, _ := filepath.Glob("/boot/vmlinuz-*-cloud-amd64")
	if len(found) == 0 {
		return nil, errors.New("no cloud kernel in /boot: apt-get install linux-image-cloud-amd64, or use -kernels")
	}
	return found[len(found)-1:], nil
}
