package bootproto

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Places of the specifications in the initramfs.
const (
	BootSpecPath = "/etc/storeboot/boot.json"
	RunSpecPath  = "/etc/storeboot/run.json"
)

// SpecVersion is the version of both specifications. A reader refuses any
// other.
const SpecVersion = 1

// BootSpec is what the builder of an image tells its init. An image without
// one behaves as the zero BootSpec with the version set.
type BootSpec struct {
	Version int `json:"version"`
	// Kernel is the release that Modules were built for ("6.1.0-56-cloud-amd64");
	// empty if there are none.
	Kernel string `json:"kernel,omitempty"`
	// Modules are loaded in this order, before the store is mounted.
	Modules []BootModule `json:"modules,omitempty"`
	// Mounts are made after /proc, /sys, /dev, /run and /tmp, before the store.
	Mounts []Mount `json:"mounts,omitempty"`
	// Mode is what to do when the command line names no mode: "", find, shell
	// or run.
	Mode Mode `json:"mode,omitempty"`
	// Shell is the argv of the interactive shell; empty: the image has none.
	Shell []string `json:"shell,omitempty"`
	// Hooks are commands that are run around the mount of the store.
	Hooks *Hooks `json:"hooks,omitempty"`
}

// Hooks are commands in the image, each run to its end before the next: after
// the modules and Mounts, before and after the mount of the store.
type Hooks struct {
	BeforeStore []Hook `json:"before_store,omitempty"`
	AfterStore  []Hook `json:"after_store,omitempty"`
}

// Hook is one command. If it fails, the boot does, unless it is Optional.
type Hook struct {
	Argv     []string `json:"argv"` // Argv[0] is the program's absolute path
	Optional bool     `json:"optional,omitempty"`
}

// BootModule is one kernel module in the image, stored uncompressed.
type BootModule struct {
	Name    string `json:"name"`
	Path    string `json:"path"`              // absolute, in the image
	Options string `json:"options,omitempty"` // module parameters, space separated
	// Needs are the names of modules before this one that have to be loaded
	// first. If no module has any, each needs the one before it; otherwise those
	// that do not need each other may be loaded at the same time.
	Needs []string `json:"needs,omitempty"`
}

// Mount is one mount(2): Options are both flags (ro, nosuid, ...) and data.
type Mount struct {
	Source  string `json:"source"`
	Target  string `json:"target"`
	Type    string `json:"type"`
	Options string `json:"options,omitempty"`
}

// Stdin is what a program reads.
type Stdin string

const (
	StdinConsole Stdin = "console" // the console that it also writes to
	StdinNull    Stdin = "null"    // /dev/null: end of file at once
	// StdinPort is the virtio-serial port named StdinPortName: bytes pass
	// unchanged, and it has an end, neither of which a console does.
	StdinPort Stdin = "port"
)

// Output is where a program writes.
type Output string

const (
	OutputConsole Output = "console" // the console
	// OutputPort is a virtio-serial port of its own: bytes pass unchanged, and
	// in large pieces, where a console takes 16 at a time.
	OutputPort Output = "port"
)

// Names of the virtio-serial ports of [StdinPort], of [OutputPort] for standard
// output and error, and of [RunSpec].Control.
const (
	StdinPortName   = "storeboot.stdin"
	StdoutPortName  = "storeboot.stdout"
	StderrPortName  = "storeboot.stderr"
	ControlPortName = "storeboot.control"
)

// RunSpec is what the launcher tells init to run: the whole of it, free of the
// length and quoting limits of the command line. The launcher appends it to
// the initrd as a segment of its own.
type RunSpec struct {
	Version int      `json:"version"`
	Argv    []string `json:"argv"`          // Argv[0] is the program's absolute path
	Env     []string `json:"env,omitempty"` // KEY=VALUE, over init's own PATH, HOME and TERM
	Dir     string   `json:"dir,omitempty"` // working directory, default /
	// Stdin defaults to StdinConsole.
	Stdin Stdin `json:"stdin,omitempty"`
	// Stdout and Stderr default to OutputConsole.
	Stdout Output `json:"stdout,omitempty"`
	Stderr Output `json:"stderr,omitempty"`
	// Control says that there is a port ControlPortName, on which the launcher
	// sends lines of JSON, each a [Control], as long as the program runs.
	Control bool `json:"control,omitempty"`
	// Terminal says that a person sits at the console: it stays in line mode
	// with echo. Otherwise output passes through it unchanged.
	Terminal bool `json:"terminal,omitempty"`
	// Rows and Columns are the size of that terminal, 0 if unknown.
	Rows    int `json:"rows,omitempty"`
	Columns int `json:"columns,omitempty"`
	// User is whom the program runs as, nil for root.
	User *User `json:"user,omitempty"`
	// LimitMillis ends the program after so many milliseconds, with exit status
	// [StatusTimeout]; 0 is no limit.
	LimitMillis int64 `json:"limit_ms,omitempty"`
	// Mounts are made after the store's, such as further virtio-fs shares; for
	// [ModeInit] they are in the new root.
	Mounts []Mount `json:"mounts,omitempty"`
	// Agent asks for the agent, by which the launcher runs further programs; ""
	// for none.
	Agent AgentKind `json:"agent,omitempty"`
}

// StatusTimeout is the exit status of a program that took too long, as
// timeout(1) has it.
const StatusTimeout = 124

// User is whom a program runs as, in numbers: the guest has no accounts.
type User struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
}

// ParseBootSpec parses and checks data; unknown keys are errors.
func ParseBootSpec(data []byte) (*BootSpec, error) {
	s := new(BootSpec)
	if err := parse(data, s.read); err != nil {
		return nil, fmt.Errorf("boot specification: %w", err)
	}
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("boot specification: %w", err)
	}
	return s, nil
}

// Check says whether s is complete and sound.
func (s *BootSpec) Check() error {
	if err := checkVersion(s.Version); err != nil {
		return err
	}
	for i, m := range s.Modules {
		if m.Name == "" || !cleanAbs(m.Path) {
			return fmt.Errorf("modules[%d]: name %q, path %q: want a name and an absolute path", i, m.Name, m.Path)
		}
	}
	before := map[string]bool{}
	for i, m := range s.Modules {
		for _, name := range m.Needs {
			if !before[name] {
				return fmt.Errorf("modules[%d]: %s needs %s, which does not stand before it", i, m.Name, name)
			}
		}
		before[m.Name] = true
	}
	for i, m := range s.Mounts {
		if !cleanAbs(m.Target) || m.Type == "" {
			return fmt.Errorf("mounts[%d]: target %q, type %q: want an absolute target and a type", i, m.Target, m.Type)
		}
	}
	switch s.Mode {
	case ModeNone, ModeFind, ModeShell, ModeRun:
	default:
		return fmt.Errorf("mode %q: want find, shell or run", s.Mode)
	}
	if err := s.Hooks.check(); err != nil {
		return err
	}
	return checkArgv("shell", s.Shell, false)
}

func (h *Hooks) check() error {
	if h == nil {
		return nil
	}
	for i, x := range h.BeforeStore {
		if err := checkArgv(fmt.Sprintf("hooks.before_store[%d]", i), x.Argv, true); err != nil {
			return err
		}
	}
	for i, x := range h.AfterStore {
		if err := checkArgv(fmt.Sprintf("hooks.after_store[%d]", i), x.Argv, true); err != nil {
			return err
		}
	}
	return nil
}

// ParseRunSpec parses and checks data; unknown keys are errors.
func ParseRunSpec(data []byte) (*RunSpec, error) {
	s := new(RunSpec)
	if err := parse(data, s.read); err != nil {
		return nil, fmt.Errorf("run specification: %w", err)
	}
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("run specification: %w", err)
	}
	return s, nil
}

// Check says whether s is complete and sound.
func (s *RunSpec) Check() error {
	if err := checkVersion(s.Version); err != nil {
		return err
	}
	if err := checkArgv("argv", s.Argv, true); err != nil {
		return err
	}
	if err := checkEnv(s.Env); err != nil {
		return err
	}
	if s.Dir != "" && !cleanAbs(s.Dir) {
		return fmt.Errorf("dir %q: want an absolute path", s.Dir)
	}
	switch s.Stdin {
	case "", StdinConsole, StdinNull, StdinPort:
	default:
		return fmt.Errorf("stdin %q: want %s, %s or %s", s.Stdin, StdinConsole, StdinNull, StdinPort)
	}
	for _, o := range []struct {
		name string
		to   Output
	}{{"stdout", s.Stdout}, {"stderr", s.Stderr}} {
		switch o.to {
		case "", OutputConsole, OutputPort:
		default:
			return fmt.Errorf("%s %q: want %s or %s", o.name, o.to, OutputConsole, OutputPort)
		}
	}
	if s.LimitMillis < 0 {
		return fmt.Errorf("limit_ms %d: want 0 or more", s.LimitMillis)
	}
	for i, m := range s.Mounts {
		if !cleanAbs(m.Target) || m.Target == "/" || m.Type == "" {
			return fmt.Errorf("mounts[%d]: target %q, type %q: want an absolute target and a type", i, m.Target, m.Type)
		}
	}
	switch s.Agent {
	case "", AgentPort, AgentVsock:
	default:
		return fmt.Errorf("agent %q: want %s or %s", s.Agent, AgentPort, AgentVsock)
	}
	return checkSize(s.Rows, s.Columns)
}

func checkEnv(env []string) error {
	for i, e := range env {
		if k, _, ok := strings.Cut(e, "="); !ok || k == "" || strings.ContainsRune(e, 0) {
			return fmt.Errorf("env[%d]: %q is not KEY=VALUE", i, e)
		}
	}
	return nil
}

func checkVersion(v int) error {
	if v != SpecVersion {
		return fmt.Errorf("version %d, this program reads version %d", v, SpecVersion)
	}
	return nil
}

func checkArgv(what string, argv []string, required bool) error {
	if len(argv) == 0 {
		if required {
			return fmt.Errorf("%s: empty", what)
		}
		return nil
	}
	if !cleanAbs(argv[0]) {
		return fmt.Errorf("%s: %q is not an absolute path", what, argv[0])
	}
	for i, a := range argv {
		if strings.ContainsRune(a, 0) {
			return fmt.Errorf("%s[%d]: contains a NUL byte", what, i)
		}
	}
	return nil
}

// cleanAbs holds for absolute paths in their shortest form: without "..",
// nothing in a specification leaves the root it speaks of.
func cleanAbs(p string) bool {
	return path.IsAbs(p) && !strings.ContainsRune(p, 0) && path.Clean(p) == p
}

// strict decodes one JSON value with known keys and nothing after it.
func strict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}
