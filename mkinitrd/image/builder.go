package image

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"path"
	"slices"

	"storeboot/internal/bootproto"
	"storeboot/internal/newc"
	"storeboot/mkinitrd/kmod"
	"storeboot/templates"
)

// Builder makes an image of a template.
type Builder struct {
	Template *templates.Template
	Init     string // the file of /init
	// Programs are the files of the commands that are programs of their own,
	// by name, and of the template's programs, by import path.
	Programs map[string]string
	// Busybox is the file of the program that all other commands are; "" if
	// there are none.
	Busybox string
	// Modules is where the modules are; nil is a kernel that has all that the
	// template's modules do built in.
	Modules *kmod.Index
	Kernel  string // the release that Modules are for
	Arch    string // of the kernel and of all programs, as GOARCH
	// Sysroot is the root directory that binaries, libraries and firmware are
	// taken from; "" is this machine's.
	Sysroot string
	// SegmentSize is how much data a segment has at most; 0 is no limit.
	SegmentSize int64
	// Time is the time of all entries, in seconds since 1970.
	Time uint32
	// Log hears of what is left out; nil is nobody.
	Log *slog.Logger
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

// everyImage is the reason of what no template asks for.
var everyImage = Reason{Why: "every image"}

// Build returns the image: what comes early, the template's archives, and all
// else.
func (b *Builder) Build() (*Image, error) {
	img, err := b.build()
	if err != nil {
		return nil, fmt.Errorf("build image from template %s: %w", b.Template.Name, err)
	}
	return img, nil
}

func (b *Builder) build() (*Image, error) {
	if b.Log == nil {
		b.Log = slog.New(slog.DiscardHandler)
	}
	img := &Image{Template: b.Template.Name}
	for _, add := range []func() ([]Segment, error){b.microcode, b.earlyArchives, b.archives} {
		s, err := add()
		if err != nil {
			return nil, err
		}
		img.Segments = append(img.Segments, s...)
	}
	t := newTree()
	for _, d := range directories {
		if err := t.directory(d.name, d.perm, everyImage); err != nil {
			return nil, err
		}
	}
	steps := []func(*tree) error{b.devices, b.programs, b.contents, b.binaries, b.defaults, b.boot}
	for _, step := range steps {
		if err := step(t); err != nil {
			return nil, err
		}
	}
	entries, err := t.list()
	if err != nil {
		return nil, err
	}
	img.Segments = append(img.Segments, cut(entries, b.SegmentSize)...)
	for _, s := range img.Segments {
		if s.Archive == "" {
			for i := range s.Entries {
				s.Entries[i].MTime = b.Time
			}
		}
	}
	return img, nil
}

// devices adds the two nodes that are opened before /dev is mounted.
func (b *Builder) devices(t *tree) error {
	if err := t.device("/dev/console", newc.TypeChar|0o600, 5, 1, everyImage); err != nil {
		return err
	}
	return t.device("/dev/null", newc.TypeChar|0o666, 1, 3, everyImage)
}

// programs adds init and the commands.
func (b *Builder) programs(t *tree) error {
	if err := b.program(t, "/init", b.Init, Reason{Why: "init"}); err != nil {
		return err
	}
	const busybox = "/bin/bb"
	for _, c := range b.Template.Commands {
		place, why := "/bin/"+c.Name, Reason{Why: "command " + c.Name, At: c.At.String(), Origin: c.Import}
		if file, ok := b.Programs[c.Name]; ok && c.Import == "" {
			if err := b.program(t, place, file, why); err != nil {
				return c.At.Wrap(err)
			}
			continue
		}
		if t.entries[busybox] == nil {
			if err := b.program(t, busybox, b.Busybox, Reason{Why: "commands", By: place, At: why.At}); err != nil {
				return err
			}
		}
		if err := t.symlink(place, path.Base(busybox), why); err != nil {
			return c.At.Wrap(err)
		}
	}
	for _, p := range b.Template.Programs {
		if err := b.program(t, p.Path, b.Programs[p.Import], Reason{Why: "program " + p.Import, At: p.At.String(), Origin: p.Import}); err != nil {
			return p.At.Wrap(err)
		}
	}
	return nil
}

func (b *Builder) program(t *tree, place, file string, why Reason) error {
	if err := checkProgram(file, b.Arch); err != nil {
		return fmt.Errorf("%s: %w", why.Why, err)
	}
	return t.file(place, 0o755, file, why)
}

// boot adds the modules and the specifications, which speak of all that was
// added before.
func (b *Builder) boot(t *tree) error {
	spec := &bootproto.BootSpec{Version: bootproto.SpecVersion, Shell: b.Template.Shell, Mode: bootproto.Mode(b.Template.Mode)}
	for _, m := range b.Template.Mounts {
		spec.Mounts = append(spec.Mounts, bootproto.Mount{Source: m.Source, Target: m.Target, Type: m.Type, Options: m.Options})
	}
	var err error
	if b.Modules != nil {
		spec.Kernel = b.Kernel
		if spec.Modules, err = b.addModules(t); err != nil {
			return err
		}
	} else if err := b.addFirmware(t, nil); err != nil {
		return err
	}
	if spec.Hooks, err = b.hooks(t); err != nil {
		return err
	}
	if err := spec.Check(); err != nil {
		return fmt.Errorf("boot specification: %w", err)
	}
	if len(spec.Shell) > 0 && !isProgram(t, spec.Shell[0]) {
		return fmt.Errorf("shell %s: no such program in the image: add the command or the file", spec.Shell[0])
	}
	if spec.Mode == bootproto.ModeShell && len(spec.Shell) == 0 {
		return fmt.Errorf("mode shell: the template names no shell")
	}
	if err := b.runSpec(t); err != nil {
		return err
	}
	return addJSON(t, bootproto.BootSpecPath, spec, Reason{Why: "boot specification"})
}

// hooks are those of the template, which all have to be in the image.
func (b *Builder) hooks(t *tree) (*bootproto.Hooks, error) {
	convert := func(hooks []templates.Hook) ([]bootproto.Hook, error) {
		var out []bootproto.Hook
		for _, h := range hooks {
			// One in the store is only there later, and another system's.
			if !isProgram(t, h.Argv[0]) && !h.Optional && !underStore(h.Argv[0]) {
				return nil, h.At.Wrap(fmt.Errorf("hook %s: no such program in the image: add the command or the file", h.Argv[0]))
			}
			out = append(out, bootproto.Hook{Argv: h.Argv, Optional: h.Optional})
		}
		return out, nil
	}
	if h := b.Template.Hooks; len(h.BeforeStore)+len(h.AfterStore) == 0 {
		return nil, nil
	}
	out := &bootproto.Hooks{}
	var err error
	if out.BeforeStore, err = convert(b.Template.Hooks.BeforeStore); err == nil {
		out.AfterStore, err = convert(b.Template.Hooks.AfterStore)
	}
	return out, err
}

// runSpec adds the program of mode run.
func (b *Builder) runSpec(t *tree) error {
	r := b.Template.Run
	if r == nil {
		return nil
	}
	spec := &bootproto.RunSpec{Version: bootproto.SpecVersion, Argv: r.Argv, Env: r.Env, Dir: r.Dir}
	if err := spec.Check(); err != nil {
		return r.At.Wrap(fmt.Errorf("run: %w", err))
	}
	if !isProgram(t, r.Argv[0]) && !underStore(r.Argv[0]) {
		return r.At.Wrap(fmt.Errorf("run: %s: no such program in the image", r.Argv[0]))
	}
	return addJSON(t, bootproto.RunSpecPath, spec, Reason{Why: "run specification", At: r.At.String()})
}

func addJSON(t *tree, place string, v any, why Reason) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return t.data(place, 0o644, append(data, '\n'), why)
}

// isProgram says whether something that can be executed is at the path.
func isProgram(t *tree, name string) bool {
	e := t.find(name)
	return e != nil && e.Type() == newc.TypeRegular && e.Perm()&0o111 != 0
}

// underStore says whether the path is below the store's mount.
func underStore(name string) bool {
	return len(name) > len("/nix/store/") && name[:len("/nix/store/")] == "/nix/store/"
}

// options are the parameters that the template gives a module: the last ones,
// as what extends a template comes after it.
func (b *Builder) options(name string) string {
	for _, m := range slices.Backward(b.Template.Modules) {
		if m.Options != "" && kmod.Canonical(m.Name) == name {
			return m.Options
		}
	}
	return ""
}
