package boot

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"
)

// available are the modules in the image that are loaded only when something
// asks for them: a device that is there, or the type of a file system. The image
// has their tables as depmod(8) makes them.
type available struct {
	dir     string              // of the modules
	needs   map[string][]string // a module's file -> those that it needs
	files   map[string]string   // a module's name -> its file
	aliases [][2]string         // pattern, module
	tried   map[string]bool     // by name
}

// readAvailable reads the tables; without them there is no such module.
func (b *boot) readAvailable() error {
	dir := "/lib/modules/" + b.sys.Release()
	aliases, err := b.readOptional(dir + "/modules.alias")
	if err != nil || aliases == nil {
		return err
	}
	deps, err := b.readOptional(dir + "/modules.dep")
	if err != nil || deps == nil {
		return err
	}
	a := &available{dir: dir, needs: map[string][]string{}, files: map[string]string{}, tried: map[string]bool{}}
	for line := range strings.Lines(string(deps)) {
		file, needs, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		a.needs[file] = strings.Fields(needs)
		a.files[strings.ReplaceAll(strings.TrimSuffix(path.Base(file), ".ko"), "-", "_")] = file
	}
	for line := range strings.Lines(string(aliases)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" {
			a.aliases = append(a.aliases, [2]string{f[1], strings.ReplaceAll(f[2], "-", "_")})
		}
	}
	for _, m := range b.spec.Modules { // init has loaded these
		a.tried[strings.ReplaceAll(m.Name, "-", "_")] = true
	}
	b.available = a
	return nil
}

// loadForDevices loads the modules that the devices ask for that are there by
// now, until none appears any more: a bus' driver brings up further devices. For
// those that appear later, while somebody waits, see waitDevice. A module that
// fails is not tried again, and is no error: the device may do without.
func (b *boot) loadForDevices() {
	if b.available == nil {
		return
	}
	for again := true; again; {
		again = false
		seen := map[string]bool{}
		for _, file := range b.sys.Glob("/sys/bus/*/devices/*/modalias") {
			text, err := b.sys.ReadFile(file)
			alias := strings.TrimSpace(string(text))
			if err != nil || alias == "" || seen[alias] {
				continue
			}
			seen[alias] = true
			again = b.loadAlias(alias) || again
		}
	}
}

// loadAlias loads the modules whose pattern the alias matches, and says whether
// one was loaded.
func (b *boot) loadAlias(alias string) bool {
	if b.available == nil {
		return false
	}
	loaded := false
	for _, a := range b.available.aliases {
		if ok, err := path.Match(a[0], alias); err != nil || !ok || b.available.tried[a[1]] {
			continue
		}
		if err := b.loadAvailable(a[1]); err != nil {
			b.log.warning("module for " + alias + ": " + err.Error())
			continue
		}
		loaded = true
	}
	return loaded
}

// loadAvailable loads the module with all that it needs, which modules.dep lists
// in full, the last one first.
func (b *boot) loadAvailable(name string) error {
	a := b.available
	file, ok := a.files[name]
	if !ok {
		a.tried[name] = true
		return fmt.Errorf("%s: modules.dep does not list it", name)
	}
	list := append([]string{file}, a.needs[file]...)
	for _, file := range slices.Backward(list) {
		name := strings.ReplaceAll(strings.TrimSuffix(path.Base(file), ".ko"), "-", "_")
		if a.tried[name] {
			continue
		}
		a.tried[name] = true
		if b.params.Blacklisted(name) {
			return fmt.Errorf("%s: the command line forbids it", name)
		}
		options := b.params.ModuleOptions(name)
		b.debug(strings.TrimSpace("module " + name + " " + options))
		err := b.sys.LoadModule(path.Join(a.dir, file), options)
		if err != nil && !errors.Is(err, syscall.EEXIST) {
			return fmt.Errorf("%s: %w", name, explainModule(err))
		}
	}
	return nil
}

// needType loads the module of a file system that the kernel does not have yet.
func (b *boot) needType(fstype string) {
	known, err := b.sys.ReadFile("/proc/filesystems")
	if err != nil {
		return
	}
	if !slices.Contains(strings.Fields(string(known)), fstype) {
		b.loadAlias("fs-" + fstype)
	}
}
