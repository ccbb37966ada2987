package kmod

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Under returns the names of all modules below a directory of the kernel's
// tree, such as "drivers/net/", sorted. The error wraps [ErrNotFound] if there
// are none; those that are built in are not among them.
func (x *Index) Under(dir string) ([]string, error) {
	prefix := "kernel/" + strings.Trim(dir, "/") + "/"
	var out []string
	for _, name := range slices.Sorted(maps.Keys(x.deps)) {
		if strings.HasPrefix(x.deps[name].path, prefix) {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("modules in %s: %w in %s", dir, ErrNotFound, x.dir)
	}
	return out, nil
}

// Tables are the texts of modules.dep, modules.softdep and modules.alias for
// some modules only, uncompressed, as insmod and modprobe in an image read them.
func (x *Index) Tables(modules []Module) (map[string][]byte, error) {
	have := map[string]bool{}
	for _, m := range modules {
		have[m.Name] = true
	}
	list, err := x.aliases()
	if err != nil {
		return nil, err
	}
	var dep, soft, alias strings.Builder
	for _, name := range slices.Sorted(maps.Keys(have)) {
		d := x.deps[name]
		dep.WriteString(withoutCompression(d.path) + ":")
		for _, need := range d.needs {
			if have[nameOf(need)] {
				dep.WriteString(" " + withoutCompression(need))
			}
		}
		dep.WriteByte('\n')
		if s := x.soft[name]; len(s.pre)+len(s.post) > 0 {
			soft.WriteString("softdep " + name)
			if len(s.pre) > 0 {
				soft.WriteString(" pre: " + strings.Join(s.pre, " "))
			}
			if len(s.post) > 0 {
				soft.WriteString(" post: " + strings.Join(s.post, " "))
			}
			soft.WriteByte('\n')
		}
	}
	for _, a := range list {
		if have[a.module] {
			alias.WriteString("alias " + a.pattern + " " + a.module + "\n")
		}
	}
	return map[string][]byte{"modules.dep": []byte(dep.String()), "modules.softdep": []byte(soft.String()), "modules.alias": []byte(alias.String())}, nil
}

// Needs returns the names that have a module loaded before it: what it depends
// on and its soft dependencies, as far as they are modules.
func (x *Index) Needs(name string) []string {
	var out []string
	for _, p := range x.deps[name].needs {
		out = append(out, nameOf(p))
	}
	for _, s := range append(slices.Clip(x.soft[name].pre), x.soft[name].post...) {
		if resolved, err := x.Resolve(s); err == nil {
			out = append(out, resolved...)
		}
	}
	return out
}
