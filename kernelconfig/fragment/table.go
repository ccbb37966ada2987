package fragment

import "storeboot/internal/kconfig"

// required is an option without which the guest does not do its work.
func required(name, why string) Option { return Option{Name: name, Need: Required, Why: why} }

// recommended is an option without which the guest has less.
func recommended(name, why string) Option {
	return Option{Name: name, Need: Recommended, Why: why}
}

// module lets the option be a module.
func (o Option) module() Option { o.ModuleOK = true; return o }

// on limits the option to an architecture.
func (o Option) on(a Arch) Option { o.Arch = a; return o }

// value asks for another value than y.
func (o Option) value(v kconfig.Value) Option { o.Value = v; return o }
