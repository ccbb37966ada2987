package fragment

import "storeboot/kernelconfig/kconfig"

// Need says what becomes of a guest without the option.
type Need string

const (
	// Required: the guest does not boot, or cannot do its work.
	Required Need = "required"
	// Recommended: it works, but slower or with less to offer.
	Recommended Need = "recommended"
)

// Option is one option of a fragment. It has to be built in, or may be a
// module if ModuleOK: then mkinitrd can put it in and init loads it in time.
type Option struct {
	Name     string // without CONFIG_
	Need     Need
	ModuleOK bool
	Why      string
}

// Fragment is a set of options for one purpose.
type Fragment struct {
	Name    string
	Summary string
	Options []Option
}

// Status is what a check finds of an option.
type Status string

const (
	BuiltIn  Status = "built-in"
	AsModule Status = "module"   // fine: the initrd carries it
	NotEarly Status = "too-late" // a module, where it has to be built in
	Missing  Status = "missing"
)

// Finding is the result for one option.
type Finding struct {
	Option Option
	Value  kconfig.Value
	Status Status
}

// Bad says whether a guest will not work because of the finding.
func (f Finding) Bad() bool {
	return f.Option.Need == Required && (f.Status == Missing || f.Status == NotEarly)
}

// Check compares c with every option of f, in the fragment's order. A kernel
// that cannot load modules lacks those that are needed as modules.
func (f Fragment) Check(c *kconfig.Config) []Finding {
	modules := c.Get("MODULES") == kconfig.Yes
	var out []Finding
	for _, o := range f.Options {
		r := Finding{Option: o, Value: c.Get(o.Name), Status: Missing}
		switch {
		case r.Value == kconfig.Yes:
			r.Status = BuiltIn
		case r.Value == kconfig.Module && o.ModuleOK && modules:
			r.Status = AsModule
		case r.Value == kconfig.Module:
			r.Status = NotEarly
		}
		out = append(out, r)
	}
	return out
}
