package image

import (
	"debug/elf"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"storeboot/mkinitrd/elfdep"
	"storeboot/templates"
)

// binaries adds programs of this machine with all that they need.
func (b *Builder) binaries(t *tree) error {
	if len(b.Template.Binaries) == 0 {
		if len(b.Template.NSS) > 0 {
			return b.Template.NSS[0].At.Wrap(errors.New("nss: the template has no binaries, and Go programs need none"))
		}
		return nil
	}
	r, err := elfdep.New(b.Sysroot)
	if err != nil {
		return err
	}
	at := map[string]string{} // of the template, by path
	first := ""               // that was found
	for _, x := range b.Template.Binaries {
		outside := strings.Contains(x.Source, "/") && !filepath.IsAbs(x.Source)
		source := x.Source
		if !outside {
			source, err = r.Find(x.Source)
			if errors.Is(err, elfdep.ErrNotFound) && x.Optional {
				b.Log.Debug("this machine has not", "binary", x.Source)
				continue
			}
			if err != nil {
				return x.At.Wrap(err)
			}
		}
		if e := t.entries[x.Path]; e != nil {
			return x.At.Wrap(fmt.Errorf("%s: is there twice, for binary %s and for %s", x.Path, x.Source, e.Why))
		}
		if err := r.Add(source, x.Path, outside, priority(x)); err != nil {
			return x.At.Wrap(err)
		}
		at[x.Path] = x.At.String()
		if first == "" {
			first = x.Path
		}
	}
	for _, s := range b.Template.NSS {
		if first == "" {
			break // all were optional
		}
		if err := r.AddService(s.Name, first); err != nil {
			return s.At.Wrap(err)
		}
	}
	for _, it := range r.Items() {
		why := Reason{Why: it.Why, By: it.By, At: at[it.Path]}
		if it.Target != "" {
			err = t.symlink(it.Path, it.Target, why)
		} else if err = b.checkMachine(it.Source); err == nil {
			err = t.file(it.Path, 0o755, it.Source, why)
		}
		if err != nil {
			return fmt.Errorf("binary: %w", err)
		}
	}
	return b.nsswitch(t)
}

func priority(x templates.Binary) elfdep.Priority {
	switch x.Dlopen {
	case "none":
		return elfdep.NoDlopen
	case "required":
		return elfdep.Required
	case "suggested":
		return elfdep.Suggested
	}
	return elfdep.Recommended
}

// checkMachine says whether an ELF file is for the kernel's architecture; what
// is no ELF file is a script, whose interpreter is checked. An amd64 kernel
// starts programs for 386 too.
func (b *Builder) checkMachine(file string) error {
	f, err := elf.Open(file)
	if err != nil {
		return nil // a script
	}
	defer f.Close()
	want := machines[b.Arch]
	if f.Machine != want && !(want == elf.EM_X86_64 && f.Machine == elf.EM_386) {
		return fmt.Errorf("%s: is for %v, the kernel for %v: give --sysroot DIR with programs for it", file, f.Machine, want)
	}
	return nil
}

// nsswitch adds a configuration for the services, if the template has none.
func (b *Builder) nsswitch(t *tree) error {
	const place = "/etc/nsswitch.conf"
	if len(b.Template.NSS) == 0 || t.entries[place] != nil {
		return nil
	}
	var names []string
	for _, s := range b.Template.NSS {
		names = append(names, s.Name)
	}
	var text strings.Builder
	for _, db := range []string{"passwd", "group", "hosts", "services", "networks", "protocols"} {
		fmt.Fprintf(&text, "%s: %s\n", db, strings.Join(names, " "))
	}
	return t.data(place, 0o644, []byte(text.String()), Reason{Why: "nss", At: b.Template.NSS[0].At.String()})
}
