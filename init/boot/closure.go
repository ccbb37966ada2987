package boot

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"

	"storeboot/internal/bootproto"
	"storeboot/internal/strictjson"
)

// newSystem is what init= names, and how it is started. There are three kinds
// of NixOS closure (nixos/modules/system/activation/top-level.nix):
//
//	A  scripted: $TOP/init is the script of stage 2
//	B  systemd in the initrd: $TOP/init is systemd, which alone would start in
//	   an empty system; the script of stage 2 is $TOP/prepare-root
//	C  nixos-init: $TOP/init is systemd, and what the script would do is data
//	   in $TOP/boot.json
type newSystem struct {
	kind string // "a program", "NixOS A", ..., for the log
	top  string // $TOP in the new root, links followed; "" for a program
	exec string // what to execute in the end
	// activation is the script to run before; "" for none.
	activation string
	// data is what to do instead of a script; nil for nothing.
	data *activationData
	// systemd says that exec takes the arguments of systemd, or hands them on.
	systemd bool
}

// stage1Variable tells the script of stage 2 that another does what frames it:
// it activates the system and ends (nixos/modules/system/boot/stage-2-init.sh).
// Scripts from before 2022 do not know it.
const stage1Variable = "IN_NIXOS_SYSTEMD_STAGE1"

// systemdPath is where a NixOS system has systemd.
const systemdPath = "systemd/lib/systemd/systemd"

// findSystem finds out what init=name is, in the new root alone: outside of it
// its symbolic links lead nowhere. name may be the system's directory too.
func (b *boot) findSystem(name string) (*newSystem, error) {
	if p := storePath(name); p != "" {
		if _, err := b.sys.Resolve(newRoot, p); isMissing(err) {
			return nil, fmt.Errorf("init %s: store path %s is not in the store: import it with virtiofsd import or virtiofsd copy", name, p)
		}
	}
	resolved, err := b.sys.Resolve(newRoot, name)
	if err != nil {
		return nil, fmt.Errorf("init %s: %w", name, err)
	}
	if st, err := b.sys.Stat(newRoot + resolved); err == nil && isType(st.Mode, syscall.S_IFDIR) {
		name = path.Join(name, "init")
		if resolved, err = b.sys.Resolve(newRoot, path.Join(resolved, "init")); err != nil {
			return nil, fmt.Errorf("init %s: %w", name, err)
		}
	}
	top := path.Dir(resolved)
	if path.Base(resolved) != "init" {
		// A closure of kind A may have its init elsewhere, as a link.
		if t, err := b.sys.Resolve(newRoot, path.Dir(name)); err == nil && b.isToplevel(t) {
			top = t
		}
	}
	script := path.Join(top, "prepare-root")
	switch target, err := b.sys.Resolve(newRoot, script); {
	case path.Base(resolved) == "init" && err == nil && b.checkExecutable(newRoot, target) == nil:
		return b.scripted("NixOS, kind B", top, script)
	case err != nil && !isMissing(err):
		return nil, fmt.Errorf("init %s: %w", name, err)
	}
	if err := b.checkExecutable(newRoot, resolved); err != nil {
		return nil, fmt.Errorf("init %w", err)
	}
	if b.isToplevel(top) {
		if isELF, err := b.isELF(resolved); err != nil {
			return nil, fmt.Errorf("init %s: %w", name, err)
		} else if !isELF {
			return b.scripted("NixOS, kind A", top, name)
		}
		data, err := b.activationData(top)
		if err != nil {
			return nil, fmt.Errorf("init %s: %w", name, err)
		}
		if data != nil {
			s := &newSystem{kind: "NixOS, kind C", top: top, exec: name, data: data, systemd: true}
			if systemd, ok := b.systemdOf(top); ok {
				s.exec = systemd
			}
			return s, nil
		}
	}
	return &newSystem{kind: "a program", exec: name, systemd: path.Base(resolved) == "systemd"}, nil
}

// scripted is the system at top that script activates: under our eyes, and then
// systemd is started; or, where that cannot be, the script does both.
func (b *boot) scripted(kind, top, script string) (*newSystem, error) {
	target, err := b.sys.Resolve(newRoot, script)
	if err != nil {
		return nil, fmt.Errorf("init %s: %w", script, err)
	}
	text, err := b.sys.ReadFile(newRoot + target)
	if err != nil {
		return nil, fmt.Errorf("init: read %s: %w", target, err)
	}
	s := &newSystem{kind: kind, top: top}
	systemd, ok := b.systemdOf(top)
	if s.systemd = ok; ok && strings.Contains(string(text), stage1Variable) {
		s.activation, s.exec = script, systemd
		return s, nil
	}
	s.kind += ", which starts its systemd itself"
	s.exec = script
	return s, nil
}

// isToplevel is NixOS' own test of a directory.
func (b *boot) isToplevel(dir string) bool {
	_, err := b.sys.Resolve(newRoot, path.Join(dir, "nixos-version"))
	return err == nil
}

// systemdOf returns the systemd of the system at top, if it can be executed.
func (b *boot) systemdOf(top string) (string, bool) {
	p, err := b.sys.Resolve(newRoot, path.Join(top, systemdPath))
	return p, err == nil && b.checkExecutable(newRoot, p) == nil
}

// isELF says whether the file name in the new root begins as ELF files do.
func (b *boot) isELF(name string) (bool, error) {
	f, err := b.sys.Open(newRoot + name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var magic [4]byte
	_, err = f.ReadAt(magic[:], 0)
	return string(magic[:]) == "\x7fELF", err
}

// activationData is what nixos-init reads, "org.nixos.nixos-init.v1" of
// $TOP/boot.json (pkgs/by-name/ni/nixos-init): all of it is optional, since
// what is there has changed over time. Unknown keys are for others.
type activationData struct {
	StoreOptions []string // nix_store_mount_opts
	Firmware     string   // firmware
	Modprobe     string   // modprobe_binary
	Env          *string  // env_binary; "" removes /usr/bin/env
	Sh           *string  // sh_binary
	EtcImage     string   // etc_metadata_image
	EtcBase      string   // etc_basedir
	Special      []specialDir
}

func (d *activationData) read(r *strictjson.Reader) error {
	link := func(to **string) error {
		if r.Null() {
			return nil
		}
		*to = new(string)
		return strictjson.Text(r, *to)
	}
	return r.Object(func(key string) error {
		switch key {
		case "nix_store_mount_opts":
			return strictjson.Texts(r, &d.StoreOptions)
		case "firmware":
			return strictjson.Text(r, &d.Firmware)
		case "modprobe_binary":
			return strictjson.Text(r, &d.Modprobe)
		case "env_binary":
			return link(&d.Env)
		case "sh_binary":
			return link(&d.Sh)
		case "etc_metadata_image":
			return strictjson.Text(r, &d.EtcImage)
		case "etc_basedir":
			return strictjson.Text(r, &d.EtcBase)
		case "special_filesystems":
			return strictjson.List(r, &d.Special, (*specialDir).read)
		}
		return r.Skip()
	})
}

// specialDir is one file system of boot.specialFileSystems.
type specialDir struct {
	Target  string   // mountpoint
	Source  string   // device
	Type    string   // fstype
	Options []string // options
}

func (s *specialDir) read(r *strictjson.Reader) error {
	return r.Object(func(key string) error {
		switch key {
		case "mountpoint":
			return strictjson.Text(r, &s.Target)
		case "device":
			return strictjson.Text(r, &s.Source)
		case "fstype":
			return strictjson.Text(r, &s.Type)
		case "options":
			return strictjson.Texts(r, &s.Options)
		}
		return r.Skip()
	})
}

func (s specialDir) mount() bootproto.Mount {
	return bootproto.Mount{Source: s.Source, Target: s.Target, Type: s.Type, Options: strings.Join(s.Options, ",")}
}

// activationData returns nil without an error if the system has none.
func (b *boot) activationData(top string) (*activationData, error) {
	file := path.Join(top, "boot.json")
	resolved, err := b.sys.Resolve(newRoot, file)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	text, err := b.sys.ReadFile(newRoot + resolved)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	d, err := parseActivation(text, file)
	if err != nil || d == nil || d.EtcImage == "" {
		return d, err
	}
	for _, p := range []*string{&d.EtcImage, &d.EtcBase} {
		// Now, as long as /proc is there, which finding it out takes.
		if *p, err = b.sys.Resolve(newRoot, *p); err != nil {
			return nil, fmt.Errorf("%s: overlay of /etc: %w", file, err)
		}
	}
	return d, nil
}

func parseActivation(text []byte, file string) (*activationData, error) {
	var d *activationData
	r := strictjson.NewReader(text)
	err := r.Object(func(key string) error {
		if key != "org.nixos.nixos-init.v1" {
			return r.Skip()
		}
		if r.Null() {
			return nil
		}
		d = new(activationData)
		return d.read(r)
	})
	if err == nil {
		err = r.End()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if d == nil {
		return nil, nil
	}
	for _, s := range d.Special {
		if !path.IsAbs(s.Target) || path.Clean(s.Target) != s.Target || s.Target == "/" || s.Type == "" {
			return nil, fmt.Errorf("%s: special file system %q of type %q: want an absolute path and a type", file, s.Target, s.Type)
		}
	}
	if (d.EtcImage == "") != (d.EtcBase == "") {
		return nil, errors.New(file + ": etc_metadata_image and etc_basedir belong together")
	}
	return d, nil
}
