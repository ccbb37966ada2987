package bootproto

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Root is what the kernel command line says about the root file system of
// [ModeInit], in the kernel's and dracut's words.
type Root struct {
	// Source is root=: a device ("/dev/vda1"), "LABEL=...", "UUID=...",
	// "PARTLABEL=...", "PARTUUID=...", "virtiofs:TAG"; "" for a file system in
	// memory.
	Source string
	Type   string // rootfstype=, "" for whatever is on the device
	Flags  string // rootflags=, options of the mount
	// ReadOnly is "ro"; the last of ro and rw counts, and rw is the default.
	ReadOnly bool
	// Wait is how long to wait for the device (rootwait, rootwait=SECONDS); 0
	// is the usual time.
	Wait time.Duration
}

// MaxRootWait is what a rootwait without an end means here.
const MaxRootWait = 3 * time.Minute

// parseKernels takes a word that is not in our namespace. Those that init does
// not obey are left to the system and its kernel.
func (p *Params) parseKernels(w Word) error {
	switch strings.ReplaceAll(w.Key, "-", "_") {
	case "init":
		p.Init = w.Value
	case "root":
		p.Root.Source = rootSource(w.Value)
	case "rootfstype":
		p.Root.Type = w.Value
	case "rootflags":
		p.Root.Flags = w.Value
	case "ro", "rw":
		if !w.HasValue {
			p.Root.ReadOnly = w.Key == "ro"
		}
	case "rootwait":
		return p.Root.parseWait(w)
	case "modprobe.blacklist", "module_blacklist":
		for name := range strings.SplitSeq(w.Value, ",") {
			if name != "" {
				p.Blacklist = append(p.Blacklist, name)
			}
		}
	default:
		module, param, ok := strings.Cut(w.Key, ".")
		if ok && module != "" && param != "" && !notModules[module] {
			p.ModuleParams = append(p.ModuleParams, w)
		}
	}
	return nil
}

// notModules begin words of programs, which look like those of modules.
var notModules = map[string]bool{"rd": true, "systemd": true, "udev": true, "luks": true, "boot": true, "nixos": true}

// rootSource is the value of root= that init obeys. NixOS systems with systemd
// in their initrd have "fstab" or "gpt-auto" there, which speak to that systemd
// alone.
func rootSource(s string) string {
	switch s {
	case "fstab", "gpt-auto", "tmpfs", "none":
		return ""
	}
	return s
}

func (r *Root) parseWait(w Word) error {
	r.Wait = MaxRootWait
	if !w.HasValue {
		return nil
	}
	n, err := strconv.Atoi(w.Value)
	if err != nil || n < 0 {
		return fmt.Errorf("%q: want a number of seconds", w.Value)
	}
	if d := time.Duration(n) * time.Second; n < int(MaxRootWait/time.Second) {
		r.Wait = d
	}
	return nil
}

// ModuleOptions are the parameters that the command line gives a module, as
// finit_module(2) takes them. In names "-" and "_" mean the same.
func (p *Params) ModuleOptions(module string) string {
	var out []string
	for _, w := range p.ModuleParams {
		name, param, _ := strings.Cut(w.Key, ".")
		if !sameModule(name, module) {
			continue
		}
		if w.HasValue {
			v := w.Value
			if strings.ContainsAny(v, kernelSpace) {
				v = `"` + v + `"`
			}
			param += "=" + v
		}
		out = append(out, param)
	}
	return strings.Join(out, " ")
}

// Blacklisted says whether a module is not to be loaded.
func (p *Params) Blacklisted(module string) bool {
	for _, name := range p.Blacklist {
		if sameModule(name, module) {
			return true
		}
	}
	return false
}

func sameModule(a, b string) bool {
	return strings.ReplaceAll(a, "-", "_") == strings.ReplaceAll(b, "-", "_")
}
