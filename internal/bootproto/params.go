package bootproto

import (
	"errors"
	"fmt"
	"strings"
)

// Prefixes are the spellings of our namespace on the kernel command line; the
// first is the one we write.
func Prefixes() []string { return []string{"storeboot.", "tvix.", "snix."} }

// Tags are the virtio-fs tags that are looked for, in order, when no tag is
// named: those of the original and of its successor.
func Tags() []string { return []string{"tvix", "snix"} }

// Parameter describes one kernel parameter for help texts and the README.
type Parameter struct {
	Name  string // without prefix, except for those of the kernel itself
	Value string // placeholder of the value; "" takes none
	Help  string
}

// Parameters is the table of kernel parameters that init obeys, and the one
// source of the parser, the help texts and the README.
func Parameters() []Parameter {
	return []Parameter{
		{"find", "", "list every path below /nix/store, then power off"},
		{"shell", "", "an interactive shell with the store mounted, then power off"},
		{"run", "PATH [ARGS]", "run a program of the store, then power off and report its exit status; quotes group words. Without a value: what the run specification in the initrd says"},
		{"init", "PATH", "(the kernel's own, without prefix) switch_root to a tmpfs with the store at /nix/store, and become PATH"},
		{"tag", "NAME", "virtio-fs tag of the store (default: tvix or snix, whichever the machine has)"},
		{"console", "DEVICE", "terminal of the program, such as hvc0 or ttyS1 (default: the kernel's console)"},
		{"store.overlay", "DISK", "make the store writable: changes go to memory (`tmpfs`), or to that disk, named as in root="},
		{"debug", "", "log every mount, module, program and activation line, and show the kernel's log on its console"},
		{"breakpoint", "STEP", "a shell before that step of the boot, or several (a,b); the boot goes on when it exits"},
		{"onfail", "ACTION", "when the boot fails: `shell`, `poweroff` or `reboot` (default: shell where a person sits, else poweroff)"},
	}
}

// Mode is what init does once the store is mounted.
type Mode string

const (
	ModeNone  Mode = ""
	ModeFind  Mode = "find"
	ModeShell Mode = "shell"
	ModeRun   Mode = "run"
	ModeInit  Mode = "init"
)

// Params is what the kernel command line says to init.
type Params struct {
	Mode     Mode
	Run      []string // argv of ModeRun; empty: take the run specification
	Init     string   // path of ModeInit
	InitArgs []string // words after " -- ", arguments of the new init
	Tag      string   // "" for any of Tags
	Console  string   // device name below /dev, "" for the kernel's console

	// StoreOverlay is where changes of the store go: "tmpfs" or a disk as
	// [Root].Source names one; "" for a store that is read-only.
	StoreOverlay string
	Debug        bool
	Breakpoints  []string // names of steps, as they were written
	OnFail       OnFail

	Root Root
	// ModuleParams are the words of the form MODULE.PARAMETER[=VALUE] that
	// [Params.ModuleOptions] searches, in order.
	ModuleParams []Word
	Blacklist    []string // modules that are not to be loaded, as they were written
}

// OnFail is what init does when it cannot do its work.
type OnFail string

const (
	OnFailDefault  OnFail = "" // a shell where a person sits, else power off
	OnFailShell    OnFail = "shell"
	OnFailPowerOff OnFail = "poweroff"
	OnFailReboot   OnFail = "reboot"
)

// ErrParameter is the cause of every error of [ParseCommandLine].
var ErrParameter = errors.New("kernel command line")

// ParseCommandLine reads line, the contents of /proc/cmdline or what will
// become it, by the kernel's own rules ([SplitCommandLine]). Parameters that
// are not ours are ignored; one in our namespace that does not exist, or has a
// value it cannot have, is an error that lists what there is. Of a repeated
// parameter the last one counts. Where several modes are named the order is
// find, shell, run, init, as in the original.
func ParseCommandLine(line string) (Params, error) {
	words, rest := SplitCommandLine(line)
	p := Params{InitArgs: rest}
	var find, shell, run bool
	for _, w := range words {
		name, ours := cutPrefix(w.Key)
		var err error
		if !ours {
			if err = p.parseKernels(w); err != nil {
				return Params{}, fmt.Errorf("%w: %s: %w", ErrParameter, w.Key, err)
			}
			continue
		}
		switch name {
		case "find":
			find, err = parseSwitch(w)
		case "shell":
			shell, err = parseSwitch(w)
		case "run":
			run = true
			p.Run, err = SplitWords(w.Value)
		case "tag":
			p.Tag, err = checkTag(w.Value)
		case "console":
			p.Console, err = checkConsole(w.Value)
		case "store.overlay":
			p.StoreOverlay, err = checkOverlay(w.Value)
		case "debug":
			p.Debug, err = parseSwitch(w)
		case "breakpoint":
			p.Breakpoints, err = checkBreakpoints(w.Value)
		case "onfail":
			p.OnFail, err = checkOnFail(w.Value)
		default:
			err = fmt.Errorf("no such parameter (there are: %s)", strings.Join(names(), ", "))
		}
		if err != nil {
			return Params{}, fmt.Errorf("%w: %s: %w", ErrParameter, w.Key, err)
		}
	}
	switch {
	case find:
		p.Mode = ModeFind
	case shell:
		p.Mode = ModeShell
	case run:
		p.Mode = ModeRun
	case p.Init != "":
		if !strings.HasPrefix(p.Init, "/") {
			return Params{}, fmt.Errorf("%w: init: %q is not an absolute path", ErrParameter, p.Init)
		}
		p.Mode = ModeInit
	}
	return p, nil
}

func cutPrefix(key string) (string, bool) {
	for _, prefix := range Prefixes() {
		if name, ok := strings.CutPrefix(key, prefix); ok {
			return name, true
		}
	}
	return "", false
}

func names() []string {
	var out []string
	for _, p := range Parameters() {
		if p.Name != "init" {
			out = append(out, p.Name)
		}
	}
	return out
}

func parseSwitch(w Word) (bool, error) {
	switch w.Value {
	case "", "1", "y", "yes", "true", "on":
		return true, nil
	case "0", "n", "no", "false", "off":
		return false, nil
	}
	return false, fmt.Errorf("value %q is neither yes nor no", w.Value)
}

// MaxTag is the longest virtio-fs tag in bytes (virtio 1.2, 5.11.4).
const MaxTag = 36

func checkTag(tag string) (string, error) {
	if tag == "" || len(tag) > MaxTag {
		return "", fmt.Errorf("tag %q has %d bytes, 1 to %d are possible", tag, len(tag), MaxTag)
	}
	return tag, nil
}

func checkConsole(dev string) (string, error) {
	dev = strings.TrimPrefix(dev, "/dev/")
	if dev == "" || strings.Contains(dev, "/") || strings.HasPrefix(dev, ".") {
		return "", fmt.Errorf("%q is not the name of a device in /dev", dev)
	}
	return dev, nil
}

func checkOverlay(s string) (string, error) {
	if s == "" {
		return "", errors.New("no value: want tmpfs, or a disk as in root=")
	}
	return s, nil
}

// checkBreakpoints splits the names of steps; which steps there are is for init
// to know.
func checkBreakpoints(s string) ([]string, error) {
	var steps []string
	for step := range strings.SplitSeq(s, ",") {
		if step == "" {
			return nil, fmt.Errorf("%q: want the name of a step, or several with commas", s)
		}
		steps = append(steps, step)
	}
	return steps, nil
}

func checkOnFail(s string) (OnFail, error) {
	switch a := OnFail(s); a {
	case OnFailShell, OnFailPowerOff, OnFailReboot:
		return a, nil
	}
	return "", fmt.Errorf("%q: want %s, %s or %s", s, OnFailShell, OnFailPowerOff, OnFailReboot)
}
