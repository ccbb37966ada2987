package kbuild

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"storeboot/internal/kconfig"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// configure writes the .config in out and holds it to what was asked for.
func (b *build) configure(ctx context.Context, src, out string) (*kconfig.Config, error) {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	piece := filepath.Join(filepath.Dir(out), "fragment.config")
	if err := os.WriteFile(piece, []byte(b.base()+b.text), 0o644); err != nil {
		return nil, err
	}
	if err := b.make(ctx, src, out, nil, "KCONFIG_ALLCONFIG="+piece, "allnoconfig"); err != nil {
		return nil, err
	}
	config, _, err := kconfig.ReadFile(filepath.Join(out, ".config"))
	if err != nil {
		return nil, err
	}
	wanted, err := kconfig.Parse(strings.NewReader(b.text))
	if err != nil {
		return nil, err
	}
	return config, b.checkConfig(src, wanted, config)
}

// checkConfig returns an error that names every option that has not become what
// was wanted, and why. An option that this version does not have any more, or not
// yet, is only reported to the log, unless it was set by hand.
func (b *build) checkConfig(src string, wanted, got *kconfig.Config) error {
	differ := kconfig.Diff(wanted, got)
	differ = slices.DeleteFunc(differ, func(name string) bool { return !wanted.Has(name) })
	if len(differ) == 0 {
		return nil
	}
	arch := b.tools.kernelArch()
	if arch == "x86_64" {
		arch = "x86"
	}
	symbols, err := readSymbols(src, arch)
	if err != nil {
		return err
	}
	var dropped []string
	for _, name := range differ {
		if _, byHand := b.Set[name]; !symbols.has(name) && !byHand {
			if b.Log != nil {
				b.Log.Warn("this kernel has no such option", "option", "CONFIG_"+name)
			}
			continue
		}
		dropped = append(dropped, fmt.Sprintf("CONFIG_%s is %s instead of %s: %s", name, got.Get(name), wanted.Get(name), symbols.explain(name, got)))
	}
	if dropped == nil {
		return nil
	}
	return fmt.Errorf("Kconfig dropped %d options: %s", len(dropped), strings.Join(dropped, "; "))
}
