package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"storeboot/internal/bootproto"
	"storeboot/internal/cli"
	"storeboot/internal/kernelimage"
	"storeboot/launcher/control"
	"storeboot/launcher/kernel"
	"storeboot/launcher/rundir"
	"storeboot/launcher/session"
	"storeboot/launcher/vmm"
)

// exitTimeout is the exit status after --timeout, as timeout(1) has it.
const exitTimeout = 124

// maxQueues is how many request queues the store daemon serves to one VM; each
// processor has one of its own as far as they go.
const maxQueues = 64

// endAgain is after how long the end of the input is typed again.
const endAgain = 500 * time.Millisecond

// job is one VM to run: what a subcommand wants, before the machine it runs on
// has been looked at.
type job struct {
	*machineOptions
	in       io.Reader
	out, err io.Writer

	template string // of the initrd, unless a flag says otherwise
	// parameters and initArgs are what init is to do; commandLine is the same
	// in the user's own words.
	parameters  []parameter
	initArgs    []string
	commandLine string
	// closureParams are kernel parameters that the system to boot brings along.
	closureParams string
	require       []string // store paths that have to be in the store
	spec          *bootproto.RunSpec
	// program gives the guest's program a console of its own. Else everything
	// is on the kernel's.
	program bool

	// lineMode says that the guest's terminal is in line mode, even if there is
	// none here, so that the end of the input can be passed on.
	lineMode bool

	// tty is the value of --tty, ttyAuto without one.
	tty string

	terminal *session.Terminal
	input    io.Reader
	// ports says that the program's outputs are ports, where the monitor has them.
	ports bool
	why   string // this monitor
	// background is set in the process that runs a VM in the background.
	background *background
}

type parameter struct{ key, value string }

func newJob(o *machineOptions, c *cobra.Command) *job {
	return &job{machineOptions: o, in: c.InOrStdin(), out: c.OutOrStdout(), err: c.ErrOrStderr(), tty: ttyAuto, background: takeBackground()}
}

// useTerminal passes on what is typed, and gives the guest a terminal if there
// is one here, or --tty says so.
func (j *job) useTerminal() {
	j.terminal = session.NewTerminal(j.in, j.out)
	if j.background != nil {
		j.input = j.background.console
	} else if !session.IsEmptyInput(j.in) {
		j.input = j.in
		if j.lineMode && j.terminal == nil {
			j.input = &lineInput{r: j.in, wait: func() { time.Sleep(endAgain) }}
		}
	}
	if j.tty == ttyNo {
		j.terminal = nil
	}
	if j.spec == nil {
		return
	}
	inTerminal := j.terminal != nil || j.tty == ttyYes || j.background != nil && j.lineMode
	switch {
	case inTerminal:
		j.spec.Terminal = true
		if j.terminal != nil {
			j.spec.Rows, j.spec.Columns = j.terminal.Size()
		}
		if t := termType(); t != "" {
			// In front, so that --env has the last word.
			j.spec.Env = append([]string{"TERM=" + t}, j.spec.Env...)
		}
	case j.input == nil || j.background != nil:
		j.input = nil
		j.spec.Stdin = bootproto.StdinNull
	case !j.lineMode:
		j.spec.Stdin = bootproto.StdinPort
	}
	// A program without a terminal has its two outputs apart.
	j.ports = !inTerminal && !j.lineMode
}

// Values of --tty.
const (
	ttyAuto = "auto"
	ttyYes  = "yes"
	ttyNo   = "no"
)

// termType is $TERM if it is plain enough for a kernel command line.
func termType() string {
	t := os.Getenv("TERM")
	if strings.ContainsFunc(t, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("+-._", r))
	}) {
		return ""
	}
	return t
}

// run runs the VM and returns its status as an error.
func (j *job) run(ctx context.Context) error {
	if (j.detach || j.attach) && j.background == nil && !j.dryRun && !j.printConf {
		return j.runDetached(ctx)
	}
	err := j.runHere(ctx)
	if j.background != nil {
		j.background.failed(err) // unless it had begun
	}
	return err
}

// runHere runs the VM in this process.
func (j *job) runHere(ctx context.Context) error {
	signals := newSignals(ctx)
	defer signals.stop()
	ctx = signals.ctx
	config, err := j.configure(ctx)
	if err != nil {
		return withStatus(err)
	}
	switch {
	case j.dryRun:
		return dryRun(j.out, config)
	case j.printConf:
		return printConfig(j.out, config, j.why)
	}
	f := newFetching(j.err)
	defer f.end()
	if len(j.substituters) > 0 {
		config.Fetched = f.show
	}
	if j.consoleLog != "" {
		f, err := os.Create(j.consoleLog)
		if err != nil {
			return fmt.Errorf("make console log: %w", err)
		}
		defer f.Close()
		config.SerialOut = f
		if !j.program {
			config.SerialOut = io.MultiWriter(j.out, f)
		}
	}
	if j.background != nil {
		j.background.connect(config, j.program)
	}
	if j.program {
		config.ProgramOut = f.until(config.ProgramOut)
	} else {
		config.SerialOut = f.until(config.SerialOut)
	}
	config.Signals = signals.toGuest(j.err)
	if j.terminal != nil {
		config.Resized = signals.resized()
	}
	result, err := session.Run(ctx, config)
	f.end()
	if text := f.summary(); text != "" {
		config.Log.Info(text)
	}
	if err != nil {
		j.showConsole(err)
		return withStatus(err)
	}
	if err := j.writeReport(result, config); err != nil {
		return err
	}
	status, err := result.Status()
	if status == cli.ExitOK && err == nil {
		return nil
	}
	if len(result.Console) > 0 {
		j.showConsole(&session.ConsoleError{Err: err, Lines: result.Console})
	}
	return &cli.StatusError{Status: status, Err: err}
}

// showConsole shows what the guest's kernel said last before a failure, unless
// it was shown all the time.
func (j *job) showConsole(err error) {
	var console *session.ConsoleError
	if !errors.As(err, &console) || !j.program || j.consoleLog != "" {
		return
	}
	fmt.Fprintln(j.err, "launcher: the guest's console said last:")
	for _, line := range console.Lines {
		fmt.Fprintln(j.err, "  "+line)
	}
}

// withStatus gives an error of a session its exit status.
func withStatus(err error) error {
	var sig session.SignalError
	switch {
	case errors.As(err, &sig):
		return &cli.StatusError{Status: 128 + int(sig.Signal)}
	case errors.Is(err, session.ErrKilled):
		return &cli.StatusError{Status: 128 + int(syscall.SIGKILL), Err: err}
	case errors.Is(err, session.ErrTimeout):
		return &cli.StatusError{Status: exitTimeout, Err: fmt.Errorf("%w (--timeout)", err)}
	case errors.Is(err, syscall.EPIPE):
		// Whoever read the output has enough of it.
		return &cli.StatusError{Status: 128 + int(syscall.SIGPIPE)}
	}
	return err
}

// configure looks at this machine and decides what to run. It starts nothing
// but, if need be, a trial of KVM.
func (j *job) configure(ctx context.Context) (*session.Config, error) {
	memory, err := j.check()
	if err != nil {
		return nil, err
	}
	devices, err := j.parseDevices()
	if err != nil {
		return nil, err
	}
	img, err := j.findKernel()
	if err != nil {
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err == nil {
		cache = filepath.Join(cache, "storeboot")
	} else {
		cache = "" // the trial of KVM is made each time
	}
	needQEMU := devices.needQEMU()
	if j.input != nil {
		needQEMU = "way to pass on what is typed"
	}
	found, err := vmm.Find(ctx, vmm.NewHost(runtime.GOARCH, cache), j.choice, img.Arch, needQEMU)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	disks, err := j.findDisks()
	if err != nil {
		return nil, err
	}
	j.wire(found, &devices)
	line, err := j.kernelLine(img.Arch, len(devices.nets) > 0)
	if err != nil {
		return nil, err
	}
	qemu := !found.Hypervisor.BootsAgain()
	config := &session.Config{
		Base:       runtimeBase(),
		Name:       j.name,
		RunSpec:    j.spec,
		Hypervisor: found.Hypervisor,
		Machine: vmm.Machine{
			Arch: img.Arch, Accel: found.Accel, Board: j.choice.Board(), CPUs: j.cpus, Memory: memory,
			Kernel: img.Path, CommandLine: line,
			Store: vmm.Store{Tag: bootproto.Tags()[0], Queues: min(j.cpus, maxQueues)},
			Disks: disks,
			Stdin: j.spec != nil && j.spec.Stdin == bootproto.StdinPort,
			Agent: j.spec != nil && j.spec.Agent != "", Control: j.spec != nil && j.spec.Control,
		},
		Input: j.input, Terminal: j.terminal, Timeout: j.timeout,
		Log: slog.New(slog.DiscardHandler),
	}
	if config.Machine.Agent && !qemu {
		config.Machine.Vsock = &vmm.Vsock{CID: agentCID}
	}
	if err := devices.add(ctx, j.machineOptions, config); err != nil {
		return nil, err
	}
	if !qemu && img.Format == kernelimage.BzImage {
		// Its payload needs no unpacking in the guest, at each boot.
		config.Machine.Kernel = kernel.Unpacked(img.Path, cache)
	}
	if j.program {
		config.ProgramOut = j.out
		if j.ports && qemu {
			config.ProgramErr = j.err
		}
	} else {
		config.SerialOut = j.out
	}
	if j.verbose {
		config.Log = newLog(j.err)
		config.ErrOut = j.err
	}
	if err := j.findHelpers(config, img.Path, devices.modules(&config.Machine)); err != nil {
		return nil, err
	}
	config.State = rundir.State{
		Command: os.Args[1:], Detached: j.background != nil,
		VMM: found.Hypervisor.Name(), Accel: string(found.Accel), Kernel: img.Release, CPUs: j.cpus, Memory: memory.String(), Ports: j.publish,
	}
	if j.background == nil {
		config.Begin = func(h *session.Handle) (func(), error) {
			s, err := control.Serve(h.Dir().Control(), h, nil)
			if err != nil {
				return nil, err
			}
			return s.Close, nil
		}
	}
	j.why = found.Why
	j.announce(img, found)
	return config, nil
}

// agentCID is the vsock address of a guest under cloud-hypervisor, whose
// addresses are its own.
const agentCID = 3

// wire says in the run specification how the program is connected, as far as
// the monitor can.
func (j *job) wire(found vmm.Found, d *devices) {
	qemu := !found.Hypervisor.BootsAgain()
	if j.spec == nil && (j.agent || j.background != nil || len(d.shares) > 0) {
		// init does something else; only how it is connected counts.
		j.spec = &bootproto.RunSpec{Version: bootproto.SpecVersion, Argv: []string{"/init"}, Terminal: true}
	}
	if j.spec == nil {
		return
	}
	j.spec.Mounts = d.bootMounts()
	if j.agent || j.background != nil {
		j.spec.Agent = bootproto.AgentVsock
		if qemu {
			j.spec.Agent = bootproto.AgentPort
		}
	}
	if !j.program || !qemu {
		return
	}
	j.spec.Control = true
	if j.ports {
		j.spec.Stdout, j.spec.Stderr = bootproto.OutputPort, bootproto.OutputPort
	}
}

// runtimeBase is where the directories of this user's VMs are.
func runtimeBase() string {
	return rundir.Base(os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), os.Geteuid())
}

func (j *job) findKernel() (*kernelimage.Image, error) {
	if j.kernel == "" {
		return kernel.Find("/boot", "/lib/modules", cmp.Or(j.arch, runtime.GOARCH))
	}
	path, err := filepath.Abs(j.kernel)
	if err != nil {
		return nil, err
	}
	// It decides on the guest's architecture.
	img, err := kernelimage.Open(path)
	if err != nil {
		return nil, err
	}
	if j.arch != "" && img.Arch != j.arch {
		return nil, fmt.Errorf("kernel %s is for %s, the guest is %s (--arch)", path, img.Arch, j.arch)
	}
	return img, nil
}

// findHelpers sets the commands of the store daemon and of the initrd builder.
func (j *job) findHelpers(config *session.Config, image string, modules []string) error {
	if j.storeDaemon != "" {
		words, err := bootproto.SplitWords(j.storeDaemon)
		if err == nil && len(words) == 0 {
			err = errors.New("empty")
		}
		if err != nil {
			return cli.Usagef("--store-daemon: %w", err)
		}
		path, err := exec.LookPath(words[0])
		if err != nil {
			return fmt.Errorf("--store-daemon: %w", err)
		}
		config.Foreign = &vmm.Command{Path: path, Args: words[1:]}
		// Those of the original have one request queue.
		config.Machine.Store.Queues = 1
		return j.findInitrd(config, image, modules)
	}
	daemon, err := findProgram("virtiofsd", j.virtiofsd)
	if err != nil {
		return err
	}
	args := j.daemonArgs()
	for _, p := range j.require {
		args = append(args, "--require", p)
	}
	config.Daemon = vmm.Command{Path: daemon, Args: args}
	return j.findInitrd(config, image, modules)
}

func (j *job) findInitrd(config *session.Config, image string, modules []string) (err error) {
	if j.initrd != "" {
		if config.Initrd, err = filepath.Abs(j.initrd); err != nil {
			return err
		}
		if err := vmm.Readable(config.Initrd); err != nil {
			return fmt.Errorf("open initrd: %w", err)
		}
		return nil
	}
	builder, err := findProgram("mkinitrd", j.mkinitrd)
	if err != nil {
		return err
	}
	template := j.template
	if template == "store" && len(config.Machine.Nets) > 0 {
		template = "net" // the same, with what obeys ip=
	}
	if j.machineOptions.template != "" {
		template = j.machineOptions.template
	}
	config.BuildInitrd = func(out string) vmm.Command {
		// It is read once, by this machine: compression costs more than it saves.
		args := []string{"build", "--template", template, "--kernel", image, "--compression", "none"}
		if j.modulesDir != "" {
			args = append(args, "--modules-dir", j.modulesDir)
		}
		for _, m := range modules {
			args = append(args, "--module", m)
		}
		return vmm.Command{Path: builder, Args: append(args, "-o", out)}
	}
	return nil
}

// announce says what was chosen, to a person.
func (j *job) announce(img *kernelimage.Image, found vmm.Found) {
	if j.dryRun || j.printConf || !j.verbose && !session.IsTerminal(j.err) {
		return
	}
	text := fmt.Sprintf("launcher: kernel %s (%s), %s with %s: %s", img.Release, img.Path, found.Hypervisor.Name(), found.Accel, found.Why)
	if j.terminal != nil {
		text += "; Ctrl-] three times ends the VM"
	}
	fmt.Fprintln(j.err, text)
}

// newLog is the log of --verbose: what happened, without the date.
func newLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}}))
}
