package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"storeboot/internal/kernelimage"
	"storeboot/mkinitrd/kmod"
	"storeboot/templates"
)

const (
	bootDir    = "/boot"
	modulesDir = "/lib/modules"
	// builtinList is the file of a modules directory that lists what is built in.
	builtinList = "modules.builtin"
)

// kernel is what an image is built for.
type kernel struct {
	path    string // "" if none was needed
	release string
	arch    string
	modules *kmod.Index // nil: all is built in
	chosen  bool        // by us
}

// dir is where the modules are; "" if there are none.
func (k *kernel) dir() string {
	if k.modules == nil {
		return ""
	}
	return k.modules.Dir()
}

// findKernel decides on the kernel and its modules.
func (o buildOptions) findKernel(t *templates.Template) (*kernel, error) {
	k := &kernel{path: o.kernel, arch: runtime.GOARCH}
	if k.path == "" && o.modulesDir == "" && !o.noModules && len(t.Modules) > 0 {
		var err error
		if k.path, err = newestKernel(bootDir, modulesDir); err != nil {
			return nil, err
		}
		k.chosen = true
	}
	if k.path != "" {
		img, err := kernelimage.Open(k.path)
		if err != nil {
			return nil, err
		}
		k.release, k.arch = img.Release, img.Arch
	}
	if o.noModules || len(t.Modules) == 0 {
		return k, nil
	}
	dir := o.modulesDir
	if dir == "" {
		dir = findModules(k.path, k.release)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			if isMonolithic(k.path, k.release) {
				return k, nil
			}
			return nil, fmt.Errorf("kernel %s: its modules are not in %s: give --modules-dir DIR, or --no-modules if it has virtio-fs built in", k.path, dir)
		}
	}
	if k.release == "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		k.release = filepath.Base(abs)
	}
	var err error
	k.modules, err = kmod.Open(dir)
	return k, err
}

// findModules is the directory of a kernel's modules: those of the tree that the
// kernel is in (DIR/boot/vmlinuz, DIR/lib/modules), as an unpacked package has
// them, else those of this machine.
func findModules(path, release string) string {
	tree := filepath.Dir(filepath.Dir(path))
	for _, lib := range []string{"lib/modules", "usr/lib/modules"} {
		dir := filepath.Join(tree, lib, release)
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	return filepath.Join(modulesDir, release)
}

// isMonolithic says whether the configuration beside the kernel says that it
// has no modules at all.
func isMonolithic(path, release string) bool {
	for _, name := range []string{"config-" + release, ".config"} {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(path), name))
		if err == nil {
			return bytes.Contains(data, []byte("\nCONFIG_")) && !bytes.Contains(data, []byte("=m\n"))
		}
	}
	return false
}

// newestKernel is the kernel of the highest release in boot that has modules.
func newestKernel(boot, modules string) (string, error) {
	files, err := filepath.Glob(filepath.Join(boot, "vmlinuz-*"))
	if err != nil {
		return "", err
	}
	best, release := "", ""
	for _, f := range files {
		img, err := kernelimage.Open(f)
		if err != nil || img.Arch != runtime.GOARCH {
			continue
		}
		if _, err := os.Stat(filepath.Join(modules, img.Release, "modules.dep")); err != nil {
			continue
		}
		if best == "" || compareReleases(img.Release, release) > 0 {
			best, release = f, img.Release
		}
	}
	if best == "" {
		return "", fmt.Errorf("no kernel in %s has its modules in %s: give --kernel FILE, or install one (apt-get install linux-image-cloud-%s)", boot, modules, runtime.GOARCH)
	}
	return best, nil
}

// compareReleases compares runs of digits as numbers, and all else as text.
func compareReleases(a, b string) int {
	for a != "" && b != "" {
		x, y := leading(a), leading(b)
		m, errX := strconv.ParseUint(x, 10, 64)
		n, errY := strconv.ParseUint(y, 10, 64)
		c := strings.Compare(x, y)
		if errX == nil && errY == nil {
			c = cmp.Compare(m, n)
		}
		if c != 0 {
			return c
		}
		a, b = a[len(x):], b[len(y):]
	}
	return cmp.Compare(len(a), len(b))
}

// leading is the run of digits, or of anything else, that s begins with.
func leading(s string) string {
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	for i := range len(s) {
		if digit(s[i]) != digit(s[0]) {
			return s[:i]
		}
	}
	return s
}
