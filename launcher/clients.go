package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"storeboot/internal/bootproto"
	"storeboot/internal/cli"
	"storeboot/launcher/control"
	"storeboot/launcher/rundir"
	"storeboot/launcher/session"
	"storeboot/launcher/vmlog"
	"storeboot/launcher/vmm"
)

func newPsCommand() *cobra.Command {
	var asJSON, quiet bool
	c := &cobra.Command{
		Use:   "ps",
		Short: "List this user's VMs",
		Long: `ps lists the VMs that this user's launchers run, in the foreground or not, and
those in the background that have ended and were not removed (launcher rm). What
is left of VMs whose launcher was killed it removes, and says so.`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			list, died, err := rundir.List(runtimeBase())
			if err != nil {
				return err
			}
			for _, name := range died {
				fmt.Fprintf(c.ErrOrStderr(), "launcher: removed what was left of VM %s, whose launcher was killed\n", name)
			}
			return printVMs(c.OutOrStdout(), list, asJSON, quiet)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print all that is known, as JSON, one VM a line")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print names only")
	return c
}

func printVMs(out io.Writer, list []rundir.Entry, asJSON, quiet bool) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if !asJSON && !quiet {
		fmt.Fprintln(w, "NAME\tSTATE\tAGE\tVMM\tCPUS\tMEMORY\tPORTS\tCOMMAND")
	}
	for _, e := range list {
		switch {
		case asJSON:
			data, err := json.Marshal(e.State)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s\n", data)
		case quiet:
			fmt.Fprintln(w, e.Name())
		default:
			state := "running"
			if e.Ended != nil {
				state = fmt.Sprintf("ended (%d)", e.Status)
			}
			fmt.Fprintf(w, "%s\t%s\t%v\t%s/%s\t%d\t%s\t%s\t%s\n", e.Name(), state, time.Since(e.Started).Round(time.Second),
				e.VMM, e.Accel, e.CPUs, e.State.Memory, strings.Join(e.Ports, ","), shorten(strings.Join(e.Command, " ")))
		}
	}
	return w.Flush()
}

// shorten keeps a line of a table short.
func shorten(s string) string {
	const limit = 60
	if r := []rune(s); len(r) > limit {
		return string(r[:limit-3]) + "..."
	}
	return s
}

func newLogsCommand() *cobra.Command {
	var follow, kernel bool
	c := &cobra.Command{
		Use:   "logs NAME",
		Short: "Print what a VM in the background has written",
		Long: fmt.Sprintf(`logs prints the output of the program of a VM in the background, or the console
of a system. The last %d MiB at least are kept, until launcher rm.`, vmlog.MaxSize>>21),
		Args: cli.ExactArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := rundir.Find(runtimeBase(), args[0])
			if err != nil {
				return err
			}
			name := programLog
			if kernel {
				name = consoleLog
			}
			ended := func() bool {
				s, err := rundir.ReadState(e.Path)
				return err != nil || s.Ended != nil
			}
			err = vmlog.Copy(c.Context(), c.OutOrStdout(), e.File(name), follow, ended)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("VM %s has no log: it is in the foreground, of process %d", e.Name(), e.PID)
			}
			return err
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes, until the VM ends")
	c.Flags().BoolVarP(&kernel, "kernel", "k", false, "the kernel's console of a VM that runs a program")
	return c
}

func newStopCommand() *cobra.Command {
	var limit time.Duration
	var kill bool
	c := &cobra.Command{
		Use:   "stop NAME...",
		Short: "End VMs: in order, or at once",
		Long: `stop asks the guest to power off, by its agent or its power button, and ends the
VM itself if it has not done so in time. It returns when nothing of the VM is
left but its logs.`,
		Args: cli.MinArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			var errs []error
			for _, name := range args {
				errs = append(errs, stopVM(c.Context(), name, limit, kill))
			}
			return errors.Join(errs...)
		},
	}
	c.Flags().DurationVar(&limit, "grace", 20*time.Second, "how much `TIME` the guest has to power off")
	c.Flags().BoolVar(&kill, "kill", false, "end the VM at once")
	return c
}

func stopVM(ctx context.Context, name string, limit time.Duration, kill bool) error {
	e, err := rundir.Find(runtimeBase(), name)
	if err != nil {
		return err
	}
	if e.Ended != nil {
		return nil
	}
	if !kill {
		// A guest that cannot be asked is killed at once.
		if c, err := control.Do(e.Control(), control.Request{Op: control.OpPowerOff}); err == nil {
			_ = c.Close()
			if waitEnd(ctx, e, limit) {
				return nil
			}
		}
	}
	ctlErr := ask(e, control.Request{Op: control.OpKill})
	if waitEnd(ctx, e, 20*time.Second) {
		return nil
	}
	return fmt.Errorf("VM %s does not end (its launcher is process %d): %w", e.Name(), e.PID, ctlErr)
}

func ask(e rundir.Entry, r control.Request) error {
	c, err := control.Do(e.Control(), r)
	if err != nil {
		return err
	}
	return c.Close()
}

// endPoll is the pause between two looks whether a VM has ended.
const endPoll = 20 * time.Millisecond

// waitEnd waits until the VM has ended and its launcher let go of it.
func waitEnd(ctx context.Context, e rundir.Entry, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(endPoll) {
		if s, err := rundir.ReadState(e.Path); err != nil || s.Ended != nil {
			if _, err := os.Stat(e.Control()); err != nil {
				return true
			}
		}
	}
	return false
}

func newWaitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "wait NAME",
		Short: "Wait for the end of a VM in the background, and exit with its status",
		Args:  cli.ExactArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := rundir.Find(runtimeBase(), args[0])
			if err != nil {
				return err
			}
			for !waitEnd(c.Context(), e, time.Hour) {
				if err := c.Context().Err(); err != nil {
					return context.Cause(c.Context())
				}
			}
			return endOf(e)
		},
	}
}

// endOf is the end of a VM as an error.
func endOf(e rundir.Entry) error {
	s, err := rundir.ReadState(e.Path)
	if err != nil {
		return fmt.Errorf("VM %s has ended; it was in the foreground, and its launcher has its status", e.Name())
	}
	if s.Status == 0 && s.Message == "" {
		return nil
	}
	status := &cli.StatusError{Status: s.Status}
	if s.Message != "" {
		status.Err = errors.New(s.Message)
	}
	return status
}

func newRmCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "rm [NAME...]",
		Short: "Remove what is left of VMs that have ended",
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return cli.Usagef("want names, or --all")
			}
			list, _, err := rundir.List(runtimeBase())
			if err != nil {
				return err
			}
			var errs []error
			for _, e := range list {
				if all && e.Ended != nil {
					errs = append(errs, rundir.RemoveEnded(e))
				}
			}
			for _, name := range args {
				e, err := rundir.Find(runtimeBase(), name)
				if err == nil {
					err = rundir.RemoveEnded(e)
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "all that have ended")
	return c
}

func newResizeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resize NAME SIZE",
		Short: "Change the memory of a running VM",
		Long: `resize gives the guest memory up to its --max-memory, or takes some back down from
its --memory with --balloon. The guest does it in its own time; a guest that does
not bring new memory into use by itself needs --cmdline memhp_default_state=online.`,
		Args: cli.ExactArgs("NAME", "SIZE"),
		RunE: func(_ *cobra.Command, args []string) error {
			size, err := vmm.ParseSize(args[1])
			if err != nil {
				return cli.Usagef("%s: %w", args[1], err)
			}
			e, err := rundir.Find(runtimeBase(), args[0])
			if err != nil {
				return err
			}
			return ask(e, control.Request{Op: control.OpResize, Memory: size})
		},
	}
}

func newAttachCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "attach NAME",
		Short: "See and type on the console of a VM in the background",
		Long: `attach connects this terminal to the console of a VM in the background. Ctrl-]
three times within a second leaves the VM running. It exits with the VM's status
if the VM ends meanwhile.`,
		Args: cli.ExactArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			return attachTo(c.Context(), newJob(&machineOptions{}, c), args[0])
		},
	}
}

// attachTo connects the streams of j to the console of a VM.
func attachTo(_ context.Context, j *job, name string) error {
	e, err := rundir.Find(runtimeBase(), name)
	if err != nil {
		return err
	}
	if e.Ended != nil {
		return fmt.Errorf("VM %s has ended (launcher logs %s)", e.Name(), e.Name())
	}
	conn, err := control.Do(e.Control(), control.Request{Op: control.OpAttach})
	if err != nil {
		return err
	}
	defer conn.Close()
	in := j.in
	var left atomic.Bool
	if t := session.NewTerminal(j.in, j.out); t != nil {
		restore, err := t.Raw()
		if err != nil {
			return err
		}
		defer restore()
		in = session.Escape(j.in)
		fmt.Fprintf(j.err, "launcher: attached to VM %s; Ctrl-] three times leaves it running\r\n", e.Name())
	}
	go func() {
		if err := conn.Send(in, false); session.IsEscape(err) {
			left.Store(true)
			_ = conn.Close()
		}
	}()
	if _, err := conn.Receive(j.out, j.err); left.Load() {
		return nil
	} else if err != nil {
		return err
	}
	if !waitEnd(context.Background(), e, time.Minute) {
		return fmt.Errorf("VM %s let go of this console, and runs on", e.Name())
	}
	return endOf(e)
}

type execOptions struct {
	tty, noInput bool
	env          []string
	dir, user    string
}

func newExecCommand() *cobra.Command {
	var o execOptions
	c := &cobra.Command{
		Use:   "exec [flags] NAME PROGRAM [ARGUMENTS...]",
		Short: "Run one more program in a running VM",
		Long: `exec runs a program in the guest, beside what it does, and exits with its status.
Standard input, output and error are passed on as they are. The VM needs an agent:
those in the background have it, others with --agent.`,
		Example: `  launcher exec web /bin/ps
  launcher exec -t web /run/current-system/sw/bin/bash -l`,
		Args: cli.MinArgs("NAME", "PROGRAM"),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c, args) },
	}
	c.Flags().BoolVarP(&o.tty, "tty", "t", false, "give the program a terminal")
	c.Flags().BoolVarP(&o.noInput, "no-input", "n", false, "give the program no input")
	c.Flags().StringArrayVar(&o.env, "env", nil, "environment variable `KEY=VALUE` of the program, repeatable")
	c.Flags().StringVar(&o.dir, "dir", "", "working `DIRECTORY` of the program in the guest (default /)")
	c.Flags().StringVar(&o.user, "user", "", "run the program as `UID[:GID[,GROUP...]]`, in numbers (default 0:0)")
	c.Flags().SetInterspersed(false)
	return c
}

func (o *execOptions) run(c *cobra.Command, args []string) error {
	spec := &bootproto.ExecSpec{Version: bootproto.SpecVersion, Argv: args[1:], Env: o.env, Dir: o.dir}
	if o.user != "" {
		var err error
		if spec.User, err = parseUser(o.user); err != nil {
			return cli.Usagef("--user %s: %w", o.user, err)
		}
	}
	if err := spec.Check(); err != nil {
		return setUsage(err)
	}
	j := newJob(&machineOptions{}, c)
	var terminal *session.Terminal
	if o.tty {
		if terminal = session.NewTerminal(j.in, j.out); terminal != nil {
			rows, columns := terminal.Size()
			spec.Rows, spec.Columns = rows, columns
		}
		spec.Terminal = true
		if t := termType(); t != "" {
			spec.Env = append([]string{"TERM=" + t}, spec.Env...)
		}
	}
	e, err := rundir.Find(runtimeBase(), args[0])
	if err != nil {
		return err
	}
	if e.Ended != nil {
		return fmt.Errorf("VM %s has ended", e.Name())
	}
	conn, err := control.Do(e.Control(), control.Request{Op: control.OpExec, Exec: spec})
	if err != nil {
		return err
	}
	defer conn.Close()
	if terminal != nil {
		restore, err := terminal.Raw()
		if err != nil {
			return err
		}
		defer restore()
	}
	signals := newSignals(c.Context())
	defer signals.stop()
	go forward(signals, conn, terminal)
	in := j.in
	if o.noInput {
		in = strings.NewReader("")
	}
	go func() { _ = conn.Send(in, true) }()
	report, err := conn.Receive(j.out, j.err)
	switch {
	case err != nil:
		return withStatus(err)
	case report == nil:
		return fmt.Errorf("VM %s ended before the program did", e.Name())
	case report.Outcome == bootproto.OutcomeFailed:
		return &cli.StatusError{Status: report.ExitStatus(), Err: errors.New(report.Message)}
	case report.ExitStatus() != 0:
		return &cli.StatusError{Status: report.ExitStatus()}
	}
	return nil
}

// forward passes signals and sizes on to a program of exec.
func forward(s *signals, conn *control.Conn, t *session.Terminal) {
	guest := s.toGuest(io.Discard)
	var resized <-chan struct{}
	if t != nil {
		resized = s.resized()
	}
	for {
		select {
		case n := <-guest:
			_ = conn.Signal(int(n))
		case <-resized:
			if rows, columns := t.Size(); rows > 0 {
				_ = conn.Resize(rows, columns)
			}
		case <-s.ctx.Done():
			_ = conn.Close() // the agent hangs up on the program
			return
		}
	}
}
