package templates

import "fmt"

// over returns t on top of base: lists after those of base, without what base
// has already; anything else instead of base's.
func (t *Template) over(base *Template) *Template {
	out := *t
	out.Parameters = join(base.Parameters, t.Parameters, func(x Parameter) string { return x.Name })
	out.Modules = join(base.Modules, t.Modules, func(x Module) string { x.At = Position{}; return text(x) })
	out.Firmware = join(base.Firmware, t.Firmware, func(x Firmware) string { return x.Name })
	out.Microcode = join(base.Microcode, t.Microcode, func(x Microcode) string { return x.Vendor })
	out.Commands = join(base.Commands, t.Commands, func(x Command) string { return x.Name + " " + x.Import })
	out.Programs = join(base.Programs, t.Programs, func(x Program) string { return x.Import + " " + x.Path })
	out.Binaries = join(base.Binaries, t.Binaries, func(x Binary) string { x.At = Position{}; return text(x) })
	out.NSS = join(base.NSS, t.NSS, func(x Service) string { return x.Name })
	out.Directories = join(base.Directories, t.Directories, func(x Directory) string { x.At = Position{}; return text(x) })
	out.Files = join(base.Files, t.Files, func(x File) string { return fmt.Sprintf("%q %p %p %q %v", x.Source, x.Text, x.Mode, x.Path, x.Owner) })
	out.Trees = join(base.Trees, t.Trees, func(x Tree) string { x.At = Position{}; return text(x) })
	out.Symlinks = join(base.Symlinks, t.Symlinks, func(x Symlink) string { x.At = Position{}; return text(x) })
	out.Devices = join(base.Devices, t.Devices, func(x Device) string { x.At = Position{}; return text(x) })
	out.Archives = join(base.Archives, t.Archives, func(x Archive) string { x.At = Position{}; return text(x) })
	out.Mounts = join(base.Mounts, t.Mounts, func(x Mount) string { x.At = Position{}; return text(x) })
	// The same command may well be run twice.
	out.Hooks.BeforeStore = append(base.Hooks.BeforeStore[:len(base.Hooks.BeforeStore):len(base.Hooks.BeforeStore)], t.Hooks.BeforeStore...)
	out.Hooks.AfterStore = append(base.Hooks.AfterStore[:len(base.Hooks.AfterStore):len(base.Hooks.AfterStore)], t.Hooks.AfterStore...)
	if len(out.Shell) == 0 {
		out.Shell = base.Shell
	}
	if out.Mode == "" {
		out.Mode = base.Mode
	}
	if out.Run == nil {
		out.Run = base.Run
	}
	if out.MaxSize == 0 {
		out.MaxSize, out.MaxSizeAt = base.MaxSize, base.MaxSizeAt
	}
	return &out
}

// text is a key for all of x.
func text(x any) string { return fmt.Sprintf("%#v", x) }

// join is b after a, with one of those that have the same key.
func join[T any](a, b []T, key func(T) string) []T {
	seen := map[string]bool{}
	var out []T
	for _, list := range [][]T{a, b} {
		for _, x := range list {
			if k := key(x); !seen[k] {
				seen[k] = true
				out = append(out, x)
			}
		}
	}
	return out
}
