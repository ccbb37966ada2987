package fragment

import "storeboot/internal/kconfig"

// Status is what a check finds of an option.
type Status string

const (
	BuiltIn  Status = "built-in" // as it has to be
	AsModule Status = "module"   // fine: the initrd carries it
	NotEarly Status = "too-late" // a module, where it has to be built in
	Missing  Status = "missing"
	Other    Status = "other" // another value than that of the fragment
)

// Finding is the result for one option.
type Finding struct {
	Option Option
	Value  kconfig.Value
	Status Status
}

// Bad says whether a guest will not work because of the finding.
func (f Finding) Bad() bool {
	return f.Option.Need == Required && f.Status != BuiltIn && f.Status != AsModule
}

// Check compares c with every option of f, in the fragment's order. A kernel
// that cannot load modules lacks those that are needed as modules.
func (f Fragment) Check(c *kconfig.Config) []Finding {
	modules := c.Get("MODULES") == kconfig.Yes
	var out []Finding
	for _, o := range f.Options {
		r := Finding{Option: o, Value: c.Get(o.Name), Status: Missing}
		switch {
		case r.Value == o.Want():
			r.Status = BuiltIn
		case o.Value != "":
			r.Status = Other
		case r.Value == kconfig.Module && o.ModuleOK && modules:
			r.Status = AsModule
		case r.Value == kconfig.Module:
			r.Status = NotEarly
		}
		out = append(out, r)
	}
	return out
}
