package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"storeboot/internal/bootproto"
	"storeboot/internal/cli"
	"storeboot/internal/kernelimage"
	"storeboot/launcher/kernel"
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

	terminal *session.Terminal
	input    io.Reader
}

type parameter struct{ key, value string }

func newJob(o *machineOptions, c *cobra.Command) *job {
	return &job{machineOptions: o, in: c.InOrStdin(), out: c.OutOrStdout(), err: c.ErrOrStderr()}
}

// useTerminal passes on what is typed, and gives the guest a terminal if there
// is one here.
func (j *job) useTerminal() {
	j.terminal = session.NewTerminal(j.in, j.out)
	if !session.IsEmptyInput(j.in) {
		j.input = j.in
		if j.lineMode && j.terminal == nil {
			j.input = &lineInput{r: j.in, wait: func() { time.Sleep(endAgain) }}
		}
	}
	if j.spec == nil {
		return
	}
	switch {
	case j.terminal != nil:
		j.spec.Terminal = true
		j.spec.Rows, j.spec.Columns = j.terminal.Size()
		if t := termType(); t != "" {
			// In front, so that --env has the last word.
			j.spec.Env = append([]string{"TERM=" + t}, j.spec.Env...)
		}
	case j.input == nil:
		j.spec.Stdin = bootproto.StdinNull
	case !j.lineMode:
		j.spec.Stdin = bootproto.StdinPort
	}
}

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
	ctx, stop := withSignals(ctx)
	defer stop()
	config, err := j.configure(ctx)
	if err != nil {
		return withStatus(err)
	}
	f := newFetching(j.err)
	defer f.end()
	if len(j.substituters) > 0 {
		config.Fetched = f.show
	}
	if j.dryRun {
		return dryRun(j.out, config)
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
	if j.program {
		config.ProgramOut = f.until(config.ProgramOut)
	} else {
		config.SerialOut = f.until(config.SerialOut)
	}
	result, err := session.Run(ctx, config)
	f.end()
	if text := f.summary(); text != "" {
		config.Log.Info(text)
	}
	if err != nil {
		return withStatus(err)
	}
	status, err := result.Status()
	if status == cli.ExitOK && err == nil {
		return nil
	}
	return &cli.StatusError{Status: status, Err: err}
}

// withStatus gives an error of a session its exit status.
func withStatus(err error) error {
	var sig signalError
	switch {
	case errors.As(err, &sig):
		return &cli.StatusError{Status: 128 + int(sig.signal)}
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
	found, err := vmm.Find(ctx, vmm.NewHost(img.Arch, cache), j.choice, j.input != nil)
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
	line, err := j.kernelLine(img.Arch)
	if err != nil {
		return nil, err
	}
	config := &session.Config{
		Base:       session.Base(os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), os.Geteuid()),
		RunSpec:    j.spec,
		Hypervisor: found.Hypervisor,
		Machine: vmm.Machine{
			Arch: img.Arch, Accel: found.Accel, CPUs: j.cpus, Memory: memory,
			Kernel: img.Path, CommandLine: line,
			Store: vmm.Store{Tag: bootproto.Tags()[0], Queues: min(j.cpus, maxQueues)},
			Disks: disks,
			Stdin: j.spec != nil && j.spec.Stdin == bootproto.StdinPort,
		},
		Input: j.input, Terminal: j.terminal, Timeout: j.timeout,
		Log: slog.New(slog.DiscardHandler),
	}
	if j.program {
		config.ProgramOut = j.out
	} else {
		config.SerialOut = j.out
	}
	if j.verbose {
		config.Log = newLog(j.err)
		config.ErrOut = j.err
	}
	if err := j.findHelpers(config); err != nil {
		return nil, err
	}
	j.announce(img, found)
	return config, nil
}

func (j *job) findKernel() (*kernelimage.Image, error) {
	if j.kernel == "" {
		return kernel.Find("/boot", "/lib/modules", runtime.GOARCH)
	}
	path, err := filepath.Abs(j.kernel)
	if err != nil {
		return nil, err
	}
	// It decides on the guest's architecture.
	return kernelimage.Open(path)
}

// findHelpers sets the commands of the store daemon and of the initrd builder.
func (j *job) findHelpers(config *session.Config) error {
	daemon, err := findProgram("virtiofsd", j.virtiofsd)
	if err != nil {
		return err
	}
	args := j.daemonArgs()
	for _, p := range j.require {
		args = append(args, "--require", p)
	}
	config.Daemon = vmm.Command{Path: daemon, Args: args}
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
	if j.machineOptions.template != "" {
		template = j.machineOptions.template
	}
	config.BuildInitrd = func(out string) vmm.Command {
		// It is read once, by this machine: compression costs more than it saves.
		return vmm.Command{Path: builder, Args: []string{
			"build", "--template", template, "--kernel", config.Machine.Kernel, "--compression", "none", "-o", out,
		}}
	}
	return nil
}

// announce says what was chosen, to a person.
func (j *job) announce(img *kernelimage.Image, found vmm.Found) {
	if j.dryRun || !j.verbose && !session.IsTerminal(j.err) {
		return
	}
	text := fmt.Sprintf("launcher: kernel %s (%s), %s with %s", img.Release, img.Path, found.Hypervisor.Name(), found.Accel)
	if found.Why != "" {
		text += ": KVM is of no use (" + found.Why + ")"
	}
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
