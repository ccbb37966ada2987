package fragment

import (
	"fmt"
	"slices"
	"strings"

	"storeboot/internal/kconfig"
)

// Need says what becomes of a guest without the option.
type Need string

const (
	// Required: the guest does not boot, or cannot do its work.
	Required Need = "required"
	// Recommended: it works, but slower or with less to offer.
	Recommended Need = "recommended"
)

// Arch is an architecture of guests, named as GOARCH.
type Arch string

const (
	AMD64 Arch = "amd64"
	ARM64 Arch = "arm64"
)

// Option is one option of a fragment. Without a value it has to be built in, or
// may be a module if ModuleOK: then mkinitrd can put it in and init loads it in
// time.
type Option struct {
	Name     string // without CONFIG_
	Need     Need
	ModuleOK bool
	Arch     Arch          // empty: every one
	Value    kconfig.Value // empty: y
	Why      string
}

// Want is the value that a kernel built for the fragment has.
func (o Option) Want() kconfig.Value {
	if o.Value == "" {
		return kconfig.Yes
	}
	return o.Value
}

// Fragment is a set of options for one purpose.
type Fragment struct {
	Name    string
	Summary string
	// Includes names the fragments that this one presupposes.
	Includes []string
	Options  []Option
}

// all are the fragments, those that are presupposed first.
func all() []Fragment {
	return []Fragment{virtioFS(), cloudHypervisor(), qemu(), systemd(), nixos(), container(), debug()}
}

// All returns every fragment, those that are presupposed first.
func All() []Fragment { return all() }

// Names are the names of all fragments.
func Names() []string {
	var names []string
	for _, f := range all() {
		names = append(names, f.Name)
	}
	return names
}

// Get joins the named fragments and those that they presuppose into one, with
// the options that concern arch. Of an option that several name, the stronger
// need counts.
func Get(arch Arch, names ...string) (Fragment, error) {
	if arch != AMD64 && arch != ARM64 {
		return Fragment{}, fmt.Errorf("no fragment for architecture %q (there are %s and %s)", arch, AMD64, ARM64)
	}
	wanted := map[string]bool{}
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		if wanted[name] {
			continue
		}
		i := slices.IndexFunc(all(), func(f Fragment) bool { return f.Name == name })
		if i < 0 {
			return Fragment{}, fmt.Errorf("no fragment %q (there are %s)", name, strings.Join(Names(), ", "))
		}
		wanted[name] = true
		names = append(names, all()[i].Includes...)
	}
	var joined Fragment
	var parts, summaries []string
	at := map[string]int{}
	for _, f := range all() {
		if !wanted[f.Name] {
			continue
		}
		parts, summaries = append(parts, f.Name), append(summaries, f.Summary)
		for _, o := range f.Options {
			if o.Arch != "" && o.Arch != arch {
				continue
			}
			i, seen := at[o.Name]
			if !seen {
				at[o.Name] = len(joined.Options)
				joined.Options = append(joined.Options, o)
				continue
			}
			if o.Need == Required {
				joined.Options[i].Need = Required
			}
			joined.Options[i].ModuleOK = joined.Options[i].ModuleOK && o.ModuleOK
		}
	}
	joined.Name, joined.Summary = strings.Join(parts, "+"), strings.Join(summaries, "; ")
	return joined, nil
}
