package image

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"storeboot/internal/bootproto"
	"storeboot/mkinitrd/kmod"
	"storeboot/templates"
)

// addModules adds the template's modules with all that they need, and returns
// those that init loads, in order.
func (b *Builder) addModules(t *tree) ([]bootproto.BootModule, error) {
	load, loadAt, err := b.closure(func(m templates.Module) bool { return !m.Available })
	if err != nil {
		return nil, err
	}
	rest, restAt, err := b.closure(func(m templates.Module) bool { return m.Available })
	if err != nil {
		return nil, err
	}
	var firmware []wanted
	var boot []bootproto.BootModule
	places := map[string]string{}
	all := slices.Clone(load)
	for _, m := range rest {
		if !slices.ContainsFunc(load, func(l kmod.Module) bool { return l.Name == m.Name }) {
			all = append(all, m)
		}
	}
	for i, m := range all {
		places[m.Name] = path.Join("/lib/modules", b.Kernel, m.Path)
		if i < len(load) {
			// Of what it needs, what stands before it: the rest is built in, or a soft
			// dependency that comes afterwards.
			needs := slices.DeleteFunc(b.Modules.Needs(m.Name), func(name string) bool {
				return !slices.ContainsFunc(boot, func(x bootproto.BootModule) bool { return x.Name == name })
			})
			boot = append(boot, bootproto.BootModule{Name: m.Name, Path: places[m.Name], Options: b.options(m.Name), Needs: needs})
		}
	}
	for i, m := range all {
		at := loadAt
		if i >= len(load) {
			at = restAt
		}
		why := Reason{Why: "module " + m.Name, At: at[m.Name].String(), By: b.neededBy(m.Name, all, at, places), Origin: m.File}
		data, err := m.Read()
		if err != nil {
			return nil, at[m.Name].Wrap(err)
		}
		if err := t.data(places[m.Name], 0o644, data, why); err != nil {
			return nil, at[m.Name].Wrap(err)
		}
		// A module that says nothing readable of itself asks for no firmware.
		info, err := kmod.ReadInfo(data)
		if err != nil {
			b.Log.Debug("module information", "module", m.Name, "error", err)
		}
		for _, name := range info.Firmware {
			firmware = append(firmware, wanted{name, places[m.Name]})
		}
	}
	if len(all) > len(load) {
		tables, err := b.Modules.Tables(all)
		if err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(tables)) {
			if err := t.data(path.Join("/lib/modules", b.Kernel, name), 0o644, tables[name], Reason{Why: "modules that init does not load"}); err != nil {
				return nil, err
			}
		}
	}
	return boot, b.addFirmware(t, firmware)
}

// closure is the load order of the chosen modules with all that they need, and
// where the template names those that it names.
func (b *Builder) closure(choose func(templates.Module) bool) ([]kmod.Module, map[string]templates.Position, error) {
	var names []string
	at := map[string]templates.Position{}
	for _, m := range b.Template.Modules {
		if !choose(m) {
			continue
		}
		var resolved []string
		var err error
		if strings.HasSuffix(m.Name, "/") {
			resolved, err = b.Modules.Under(m.Name)
		} else {
			resolved, err = b.Modules.Resolve(m.Name)
		}
		if m.Optional && errors.Is(err, kmod.ErrNotFound) {
			b.Log.Debug("the kernel has not", "module", m.Name)
			continue
		}
		if err != nil {
			return nil, nil, m.At.Wrap(err)
		}
		for _, n := range resolved {
			if _, ok := at[n]; !ok {
				at[n] = m.At
			}
		}
		names = append(names, resolved...)
		// What is wrong with this module's dependencies is said at its line.
		if _, err := b.Modules.Closure(resolved...); err != nil {
			return nil, nil, m.At.Wrap(err)
		}
	}
	list, err := b.Modules.Closure(names...)
	return list, at, err
}

// neededBy is the place of the first module that needs one that the template
// does not name.
func (b *Builder) neededBy(name string, all []kmod.Module, at map[string]templates.Position, places map[string]string) string {
	if _, ok := at[name]; ok {
		return ""
	}
	for _, m := range all {
		if slices.Contains(b.Modules.Needs(m.Name), name) {
			return places[m.Name]
		}
	}
	return ""
}

// wanted is a firmware file that a module may ask for.
type wanted struct{ name, by string }

// addFirmware adds the template's firmware, which has to be there, and that of
// modules, which name files of all devices there ever were.
func (b *Builder) addFirmware(t *tree, modules []wanted) error {
	for _, f := range b.Template.Firmware {
		files := b.findFirmware(f.Name)
		if len(files) == 0 {
			return f.At.Wrap(fmt.Errorf("firmware %s: not in %s", f.Name, strings.Join(b.firmwareDirs(), ", ")))
		}
		for _, x := range files {
			if err := t.file(x.place, 0o644, x.file, Reason{Why: "firmware " + f.Name, At: f.At.String()}); err != nil {
				return f.At.Wrap(err)
			}
		}
	}
	for _, w := range modules {
		if !filepath.IsLocal(w.name) {
			continue
		}
		files := b.findFirmware(w.name)
		if len(files) == 0 {
			b.Log.Info("firmware is not installed", "name", w.name, "module", path.Base(w.by))
		}
		for _, x := range files {
			if t.entries[x.place] != nil {
				continue
			}
			if err := t.file(x.place, 0o644, x.file, Reason{Why: "firmware " + w.name, By: w.by}); err != nil {
				return err
			}
		}
	}
	return nil
}

// firmwareDirs are those that the kernel looks into (firmware_class), in order.
func (b *Builder) firmwareDirs() []string {
	dirs := []string{"/lib/firmware/updates", "/lib/firmware"}
	if b.Kernel != "" {
		dirs = []string{"/lib/firmware/updates/" + b.Kernel, "/lib/firmware/updates", "/lib/firmware/" + b.Kernel, "/lib/firmware"}
	}
	for i := range dirs {
		dirs[i] = b.Sysroot + dirs[i]
	}
	return dirs
}

type firmwareFile struct{ file, place string }

// findFirmware finds the files of a name or pattern, compressed or not: the
// kernel unpacks them.
func (b *Builder) findFirmware(name string) []firmwareFile {
	for _, dir := range b.firmwareDirs() {
		var out []firmwareFile
		for _, ext := range []string{"", ".zst", ".xz"} {
			matches := []string{filepath.Join(dir, name+ext)}
			if strings.ContainsAny(name, "*?[") {
				matches, _ = filepath.Glob(filepath.Join(dir, name+ext))
			}
			for _, m := range matches {
				if st, err := os.Stat(m); err == nil && st.Mode().IsRegular() {
					out = append(out, firmwareFile{m, strings.TrimPrefix(m, b.Sysroot)})
				} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
					b.Log.Info("firmware cannot be read", "file", m, "error", err)
				}
			}
			if len(out) > 0 {
				return out
			}
		}
	}
	return nil
}
