package image

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"storeboot/internal/bootproto"
	"storeboot/mkinitrd/kmod"
	"storeboot/templates"
)

// Builder makes an image of a template.
type Builder struct {
	Template *templates.Template
	Init     string // the file of /init
	// Programs are the files of the commands that are programs of their own,
	// by name.
	Programs map[string]string
	// Busybox is the file of the program that all other commands are; "" if
	// there are none.
	Busybox string
	// Modules is where the modules are; nil is a kernel that has all that the
	// template's modules do built in.
	Modules *kmod.Index
	Kernel  string // the release that Modules are for
	Arch    string // of the kernel and of all programs, as GOARCH
}

// directories are in every image: init mounts on them, and programs expect
// them.
var directories = []struct {
	name string
	perm uint32
}{
	{"/bin", 0o755}, {"/dev", 0o755}, {"/etc", 0o755}, {"/nix", 0o755}, {"/nix/store", 0o755},
	{"/proc", 0o555}, {"/root", 0o700}, {"/run", 0o755}, {"/sys", 0o555}, {"/tmp", 0o1777},
}

// accounts are in every image whose template has not its own: programs ask who
// they run as.
var accounts = []struct{ name, text string }{
	{"/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"},
	{"/etc/group", "root:x:0:\n"},
}

// Build returns the image: one segment.
func (b *Builder) Build() (*Image, error) {
	t := newTree()
	for _, d := range directories {
		if err := t.directory(d.name, d.perm, "every image"); err != nil {
			return nil, err
		}
	}
	steps := []func(*tree) error{b.devices, b.programs, b.contents, b.boot}
	for _, step := range steps {
		if err := step(t); err != nil {
			return nil, fmt.Errorf("build image from template %s: %w", b.Template.Name, err)
		}
	}
	s, err := t.segment()
	if err != nil {
		return nil, fmt.Errorf("build image from template %s: %w", b.Template.Name, err)
	}
	return &Image{Segments: []Segment{s}}, nil
}

// devices adds the two nodes that are opened before /dev is mounted.
func (b *Builder) devices(t *tree) error {
	if err := t.device("/dev/console", 0o600, 5, 1, "every image"); err != nil {
		return err
	}
	return t.device("/dev/null", 0o666, 1, 3, "every image")
}

// programs adds init and the commands.
func (b *Builder) programs(t *tree) error {
	if err := b.program(t, "/init", b.Init, "init"); err != nil {
		return err
	}
	const busybox = "/bin/bb"
	for _, name := range b.Template.Commands {
		place, why := "/bin/"+name, "command "+name
		if file, ok := b.Programs[name]; ok {
			if err := b.program(t, place, file, why); err != nil {
				return err
			}
			continue
		}
		if t.entries[busybox] == nil {
			if err := b.program(t, busybox, b.Busybox, "commands"); err != nil {
				return err
			}
		}
		if err := t.symlink(place, path.Base(busybox), why); err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) program(t *tree, place, file, why string) error {
	if err := checkProgram(file, b.Arch); err != nil {
		return fmt.Errorf("%s: %w", why, err)
	}
	return t.file(place, 0o755, file, why)
}

// contents adds what the template lists.
func (b *Builder) contents(t *tree) error {
	for _, d := range b.Template.Directories {
		if err := t.directory(d.Path, d.Mode, "directory"); err != nil {
			return err
		}
	}
	for _, f := range b.Template.Files {
		perm, err := permissions(f)
		if err != nil {
			return err
		}
		if err := t.file(f.Path, perm, f.Source, "file "+f.Source); err != nil {
			return err
		}
	}
	for _, l := range b.Template.Symlinks {
		if err := t.symlink(l.Path, l.Target, "symlink"); err != nil {
			return err
		}
	}
	for _, a := range accounts {
		if t.entries[a.name] == nil {
			if err := t.data(a.name, 0o644, []byte(a.text), "every image"); err != nil {
				return err
			}
		}
	}
	for _, m := range b.Template.Mounts {
		if t.find(m.Target) == nil {
			if err := t.directory(m.Target, 0o755, "mount"); err != nil {
				return err
			}
		}
	}
	return nil
}

// permissions are those that the template gives, or one of the two usual ones:
// the builder's umask must not show.
func permissions(f templates.File) (uint32, error) {
	if f.Mode != nil {
		return *f.Mode, nil
	}
	st, err := os.Stat(f.Source)
	if err != nil {
		return 0, err
	}
	if st.Mode()&fs.ModePerm&0o100 != 0 {
		return 0o755, nil
	}
	return 0o644, nil
}

// boot adds the modules and the boot specification, which speaks of all that
// was added before.
func (b *Builder) boot(t *tree) error {
	spec := &bootproto.BootSpec{Version: bootproto.SpecVersion, Shell: b.Template.Shell, Mode: bootproto.Mode(b.Template.Mode)}
	for _, m := range b.Template.Mounts {
		spec.Mounts = append(spec.Mounts, bootproto.Mount(m))
	}
	if b.Modules != nil {
		list, err := b.modules()
		if err != nil {
			return err
		}
		spec.Kernel = b.Kernel
		for _, m := range list {
			place := path.Join("/lib/modules", b.Kernel, m.Path)
			data, err := m.Read()
			if err != nil {
				return err
			}
			if err := t.data(place, 0o644, data, "module "+m.Name); err != nil {
				return err
			}
			spec.Modules = append(spec.Modules, bootproto.BootModule{Name: m.Name, Path: place, Options: b.options(m.Name)})
		}
	}
	if err := spec.Check(); err != nil {
		return fmt.Errorf("boot specification: %w", err)
	}
	if len(spec.Shell) > 0 {
		if e := t.find(spec.Shell[0]); e == nil || e.IsDir() || e.Perm()&0o111 == 0 {
			return fmt.Errorf("shell %s: no such program in the image: add the command or the file", spec.Shell[0])
		}
	}
	if spec.Mode == bootproto.ModeShell && len(spec.Shell) == 0 {
		return fmt.Errorf("mode shell: the template names no shell")
	}
	data, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return err
	}
	return t.data(bootproto.BootSpecPath, 0o644, append(data, '\n'), "boot specification")
}

// modules are the template's with all that they need, in load order.
func (b *Builder) modules() ([]kmod.Module, error) {
	var names []string
	for _, m := range b.Template.Modules {
		if !m.Optional || b.Modules.Has(m.Name) {
			names = append(names, m.Name)
		}
	}
	return b.Modules.Closure(names...)
}

// options are the parameters that the template gives a module.
func (b *Builder) options(name string) string {
	i := slices.IndexFunc(b.Template.Modules, func(m templates.Module) bool { return kmod.Canonical(m.Name) == name })
	if i < 0 {
		return ""
	}
	return b.Template.Modules[i].Options
}
