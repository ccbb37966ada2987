package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"storeboot/internal/kernelimage"
)

// wayOut ends the errors of Find.
const wayOut = "install one (apt-get install linux-image-cloud-amd64) or use --kernel FILE"

// Find returns the newest kernel in the directory boot ("/boot") that this
// user can read and that has its modules below the directory modules
// ("/lib/modules"), for guests of arch. The error says what stands against the
// kernels that are there.
func Find(boot, modules, arch string) (*kernelimage.Image, error) {
	paths, err := filepath.Glob(filepath.Join(boot, "vmlinuz-*"))
	if err != nil {
		return nil, fmt.Errorf("find kernel: %w", err)
	}
	slices.SortFunc(paths, func(a, b string) int { return CompareReleases(b, a) })
	var first error
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	for _, p := range paths {
		img, err := kernelimage.Open(p)
		switch {
		case errors.Is(err, fs.ErrPermission):
			keep(fmt.Errorf("%w (as root: chmod +r %s)", err, p))
			continue
		case err != nil:
			keep(err)
			continue
		case img.Arch != arch:
			keep(fmt.Errorf("kernel %s is for %s, the guest is %s", p, img.Arch, arch))
			continue
		}
		if st, err := os.Stat(filepath.Join(modules, img.Release)); err != nil || !st.IsDir() {
			keep(fmt.Errorf("kernel %s lacks its modules in %s", p, filepath.Join(modules, img.Release)))
			continue
		}
		return img, nil
	}
	if first != nil {
		return nil, fmt.Errorf("find kernel: %w; %s", first, wayOut)
	}
	return nil, fmt.Errorf("find kernel: %s has no vmlinuz-*: %s", boot, wayOut)
}

// CompareReleases orders kernel releases by age: numbers by their value, and
// what is between them as text, so that 6.1.0-9 is older than 6.1.0-56 and
// 6.12.1 newer than both. A release candidate is older than its release.
func CompareReleases(a, b string) int {
	for a != "" || b != "" {
		var ta, tb, na, nb string
		ta, a = cutWhile(a, func(c byte) bool { return !digit(c) })
		tb, b = cutWhile(b, func(c byte) bool { return !digit(c) })
		if ta != tb {
			if rca, rcb := strings.HasPrefix(ta, "-rc"), strings.HasPrefix(tb, "-rc"); rca != rcb {
				if rca {
					return -1
				}
				return 1
			}
			return strings.Compare(ta, tb)
		}
		na, a = cutWhile(a, digit)
		nb, b = cutWhile(b, digit)
		na, nb = strings.TrimLeft(na, "0"), strings.TrimLeft(nb, "0")
		if len(na) != len(nb) {
			return len(na) - len(nb)
		}
		if c := strings.Compare(na, nb); c != 0 {
			return c
		}
	}
	return 0
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func cutWhile(s string, f func(byte) bool) (string, string) {
	i := 0
	for i < len(s) && f(s[i]) {
		i++
	}
	return s[:i], s[i:]
}
