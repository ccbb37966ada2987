package boot

import (
	"bufio"
	"fmt"
	"path"
	"strings"
	"syscall"
	"time"

	"storeboot/internal/bootproto"
)

// Exit statuses of a program that could not be started, as shells use them.
const (
	statusNotExecutable = 126
	statusMissing       = 127
)

// find lists the store.
func (b *boot) find() error {
	w := bufio.NewWriterSize(b.console, 64<<10)
	err := b.sys.List(storeDir, w)
	if flushErr := w.Flush(); err == nil {
		err = flushErr
	}
	return err
}

// runProgram runs the program of the command line, or else of the run
// specification. Environment, directory and input are always those of the
// specification, where there is one.
func (b *boot) runProgram() error {
	argv := b.params.Run
	switch {
	case len(argv) == 0 && b.run != nil:
		argv = b.run.Argv
	case len(argv) == 0:
		return fmt.Errorf("no program: the kernel command line has no %srun=PATH, and the initrd no %s", bootproto.Prefixes()[0], bootproto.RunSpecPath)
	case !path.IsAbs(argv[0]):
		return &failure{statusMissing, fmt.Errorf("program %q: not an absolute path", argv[0])}
	}
	return b.execute(argv)
}

// shell runs the shell of the image.
func (b *boot) shell() error {
	if len(b.spec.Shell) == 0 {
		return errNoShell
	}
	return b.execute(b.spec.Shell)
}

// execute runs a program to its end and leaves how it ended in b.outcome.
// Whatever else dies meanwhile is reaped.
func (b *boot) execute(argv []string) error {
	p := &Program{
		Argv:     argv,
		Env:      b.environment(),
		Dir:      "/",
		Terminal: b.console,
		Session:  !b.interactive(),
	}
	if b.run != nil {
		var err error
		if p.Input, err = b.input(b.run.Stdin); err != nil {
			return err
		}
		if b.run.Dir != "" {
			p.Dir = b.run.Dir
		}
		p.User = b.run.User
		if p.Stdout, err = b.output(b.run.Stdout, bootproto.StdoutPortName); err != nil {
			return err
		}
		if p.Stderr, err = b.output(b.run.Stderr, bootproto.StderrPortName); err != nil {
			return err
		}
	}
	if st, err := b.sys.Stat(p.Dir); err != nil {
		return &failure{statusNotExecutable, fmt.Errorf("working directory %s: %w", p.Dir, err)}
	} else if !isType(st.Mode, syscall.S_IFDIR) {
		return &failure{statusNotExecutable, fmt.Errorf("working directory %s: %w", p.Dir, syscall.ENOTDIR)}
	}
	b.debug(fmt.Sprintf("program %q in %s", argv, p.Dir))
	if err := b.sys.LoopbackUp(); err != nil {
		b.log.warning("the address 127.0.0.1 is not there: " + err.Error())
	}
	pid, err := b.sys.Start(p)
	if err != nil {
		return b.explainStart(argv[0], err)
	}
	b.startAgent()
	tooLong := func() bool { return false }
	if b.run != nil && b.run.LimitMillis > 0 {
		tooLong = b.sys.KillAfter(pid, time.Duration(b.run.LimitMillis)*time.Millisecond)
	}
	if b.run != nil && b.run.Control {
		stop, err := b.obey(pid)
		if err != nil {
			b.log.warning("the launcher's words do not reach the program: " + err.Error())
		}
		defer stop()
	}
	status, err := b.waitFor1(pid)
	late := tooLong()
	switch {
	case err != nil:
		return fmt.Errorf("wait for %s: %w", argv[0], err)
	case late:
		return &failure{bootproto.StatusTimeout, fmt.Errorf("program %s: not done after %v", argv[0], time.Duration(b.run.LimitMillis)*time.Millisecond)}
	}
	b.outcome = status.report()
	return nil
}

// input returns the path of what the program is to read, "" for the console.
func (b *boot) input(stdin bootproto.Stdin) (string, error) {
	switch stdin {
	case bootproto.StdinNull:
		return "/dev/null", nil
	case bootproto.StdinPort:
		return b.findPort(bootproto.StdinPortName)
	}
	return "", nil
}

// output returns the path of where the program is to write, "" for the console.
func (b *boot) output(to bootproto.Output, port string) (string, error) {
	if to != bootproto.OutputPort {
		return "", nil
	}
	return b.findPort(port)
}

// findPort waits for the virtio-serial port of that name, and returns its
// device.
func (b *boot) findPort(name string) (device string, err error) {
	err = b.waitFor(deviceWait, func() (bool, error) {
		for _, file := range b.sys.Glob("/sys/class/virtio-ports/*/name") {
			if got, err := b.sys.ReadFile(file); err == nil && strings.TrimSpace(string(got)) == name {
				device = "/dev/" + path.Base(path.Dir(file))
				if _, err := b.sys.Stat(device); err == nil {
					return false, nil
				}
			}
		}
		return true, fmt.Errorf("the machine has no virtio-serial port %s, or the initrd lacks the module virtio_console", name)
	})
	return device, err
}

// environment is that of the program: our PATH, HOME and TERM, and over them
// what the run specification says.
func (b *boot) environment() []string {
	env := []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/root", "TERM=" + b.termName()}
	if b.run == nil {
		return env
	}
	for _, kv := range b.run.Env {
		key, _, _ := strings.Cut(kv, "=")
		at := -1
		for i, have := range env {
			if strings.HasPrefix(have, key+"=") {
				at = i
			}
		}
		if at < 0 {
			env = append(env, kv)
		} else {
			env[at] = kv
		}
	}
	return env
}

// termName is the terminal type of the console where nobody names one: the
// kernel's own terminals are "linux", and at the other end of any other device
// is most likely something that obeys a VT220's codes.
func (b *boot) termName() string {
	name := b.params.Console
	if name == "" {
		active, _ := b.sys.ReadFile("/sys/class/tty/console/active")
		if f := strings.Fields(string(active)); len(f) > 0 {
			name = f[len(f)-1]
		}
	}
	if n, ok := strings.CutPrefix(name, "tty"); ok && strings.Trim(n, "0123456789") == "" {
		return "linux"
	}
	return "vt220"
}

// explainStart says why a program did not start.
func (b *boot) explainStart(name string, err error) error {
	if !isMissing(err) {
		return &failure{statusNotExecutable, fmt.Errorf("program %s: cannot be executed: %w", name, err)}
	}
	if _, statErr := b.sys.Stat(name); statErr != nil {
		if p := storePath(name); p != "" {
			if _, err := b.sys.Stat(p); err != nil {
				return &failure{statusMissing, fmt.Errorf("program %s: store path %s is not in the store: import it with virtiofsd import or virtiofsd copy", name, p)}
			}
		}
		return &failure{statusMissing, fmt.Errorf("program %s: %w", name, statErr)}
	}
	if interp, checkErr := b.interpreter("/", name); checkErr == nil && interp != "" {
		return &failure{statusMissing, fmt.Errorf("program %s: its interpreter %s is missing", name, interp)}
	}
	return &failure{statusMissing, fmt.Errorf("program %s: %w", name, err)}
}

// storePath is the part of name that is a path directly below the store, or ""
// if there is none.
func storePath(name string) string {
	rest, ok := strings.CutPrefix(path.Clean(name), storeDir+"/")
	if !ok {
		return ""
	}
	base, _, _ := strings.Cut(rest, "/")
	return storeDir + "/" + base
}
