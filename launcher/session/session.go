package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"storeboot/internal/bootproto"
	"storeboot/launcher/rundir"
	"storeboot/launcher/vmm"
)

// Limits of waiting. None is reached unless something is broken.
const (
	readyLimit = time.Minute            // until the store daemon serves: it opens its store
	fetchLimit = 24 * time.Hour         // the same where it fetches first, with limits of its own
	reportStay = 20 * time.Second       // for the power-off after the guest's last report
	endStay    = 5 * time.Second        // for the monitor's process after the guest's end
	daemonStay = 3 * time.Second        // for the daemon after the monitor's end
	deathStay  = 200 * time.Millisecond // for news of a daemon that may have died
)

// Config describes a session.
type Config struct {
	Base string // directory for the session's own, from Base
	// Daemon is the store daemon; what is there already are the arguments that
	// follow those of DaemonCommand.
	Daemon vmm.Command
	// Foreign is a store daemon of another make, used in place of Daemon: it is
	// given "-l" and the path of the socket that it makes. The guest's report then
	// comes by the kernel's console.
	Foreign *vmm.Command
	// Fetched is told what the store daemon fetches from binary caches; nil if it
	// has none. What the guest needs may have to be fetched before the daemon is
	// ready, so there is no limit of ours for that.
	Fetched func(bootproto.FetchProgress)
	// BuildInitrd makes the command that builds the initrd at the path it is
	// given; nil if Initrd names one.
	BuildInitrd func(out string) vmm.Command
	Initrd      string
	RunSpec     *bootproto.RunSpec // nil for none

	Hypervisor vmm.Hypervisor
	// Machine has no initrd, socket and consoles yet: they are in the session's
	// directory.
	Machine vmm.Machine

	// Name is the VM's, "" for a new one. State is what is known of it; Run adds
	// what it learns.
	Name  string
	State rundir.State
	// Keep names the files of the VM's directory that stay after its end, with its
	// status; nil removes all of it.
	Keep []string
	// Begin is called once the directory is there, before anything is started, and
	// end after the VM's end; nil for nothing.
	Begin func(*Handle) (end func(), err error)
	// Started is called when the guest has mounted its store; nil for nothing.
	Started func()
	// Signals are passed on to the guest's program, or end the system that it is;
	// a second one ends the VM at once.
	Signals <-chan syscall.Signal
	// Resized tells of a new size of Terminal.
	Resized <-chan struct{}
	// Affinity are the host's processors that the monitor may run on; nil for all.
	Affinity []int
	// Helpers are started before the monitor and ended after it, such as the
	// daemons of further shares. Each makes the socket Helper.Socket.
	Helpers []Helper

	// ProgramOut takes what the guest writes to the first virtio console; nil
	// leaves that console out. With ProgramErr standard output and error are ports
	// of their own.
	ProgramOut io.Writer
	ProgramErr io.Writer
	// SerialOut takes what the guest writes to the kernel console, nil for
	// nowhere.
	SerialOut io.Writer
	// Input is typed into the program's console, or into the kernel's if there
	// is no other; nil for nothing. Its end is not passed on: a console has
	// none. With Machine.Stdin it goes to that port instead, with its end.
	Input io.Reader
	// Terminal is put into raw mode while the guest runs, nil for none.
	Terminal *Terminal

	Timeout time.Duration // for the monitor's process, 0 for none
	Log     *slog.Logger
	// ErrOut takes the standard error of all children, nil for nowhere.
	ErrOut io.Writer
}

// Files is where everything of a session is.
type Files struct {
	Machine vmm.Machine // complete
	Initrd  string
}

// Layout completes the machine with the files in the session's directory,
// without making anything.
func (c *Config) Layout(d rundir.Dir) Files {
	m := c.Machine
	m.Initrd = d.File("initrd")
	m.Store.Socket = d.Socket()
	serial := vmm.Console{Output: d.File("console.out")}
	if c.Input != nil && c.ProgramOut == nil {
		serial.Input = d.File("console.in")
	}
	m.Serial = serial
	if c.ProgramOut != nil {
		m.Program = vmm.Console{Output: d.File("program.out")}
		if c.Input != nil && !m.Stdin {
			m.Program.Input = d.File("program.in")
		}
	}
	if c.ProgramErr != nil {
		m.Stdout, m.Stderr = d.File("stdout"), d.File("stderr")
	}
	m.API = d.File("api.sock")
	if m.Agent && m.Vsock != nil && c.Hypervisor.BootsAgain() {
		m.Vsock = &vmm.Vsock{CID: m.Vsock.CID, Socket: d.File("vsock.sock")}
	}
	m.Shares = slices.Clone(m.Shares)
	for i := range m.Shares {
		m.Shares[i].Socket = d.File(m.Shares[i].Socket)
	}
	m.Nets = slices.Clone(m.Nets)
	for i := range m.Nets {
		if m.Nets[i].Socket != "" {
			m.Nets[i].Socket = d.File(m.Nets[i].Socket)
		}
	}
	return Files{Machine: m, Initrd: m.Initrd}
}

// ErrTimeout is returned by Run if the VM took longer than Config.Timeout.
var ErrTimeout = errors.New("the VM was not done in time")

// Run runs the VM to its end. An error says that something outside the guest
// failed, or is the cause of ctx's end; otherwise the result says how the
// guest fared.
func Run(ctx context.Context, c *Config) (result *Result, err error) {
	r := &runner{Config: c, started: time.Now(), begun: make(chan struct{}), kill: make(chan struct{}, 1), helperEnded: make(chan *process, 1)}
	r.times.began = r.started
	r.dir, err = rundir.Make(c.Base, c.Name)
	if err != nil {
		return nil, err
	}
	r.spawner = newSpawner()
	defer func() {
		err = r.withConsole(err)
		r.cleanUp(result, err)
		if err == nil {
			r.logTimes(result)
			result.Timeline = r.timeline(result)
		}
	}()
	r.files = c.Layout(r.dir)
	if err := c.Hypervisor.Check(&r.files.Machine); err != nil {
		return nil, err
	}
	if err := r.begin(); err != nil {
		return nil, err
	}
	if err := r.prepareUntil(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	if err := r.startVM(); err != nil {
		return nil, err
	}
	return r.wait(ctx)
}

// runner is a session under way.
type runner struct {
	*Config
	dir     rundir.Dir
	files   Files
	spawner *spawner
	daemon  *daemon
	build   *process
	vm      *machine
	restore func() // of the terminal
	helpers []*process
	// helperEnded has the first of them that ended.
	helperEnded chan *process
	finally     func() // what Begin returned
	handle      *Handle

	begun  chan struct{} // closed when vm is set
	kill   chan struct{} // a token when the VM is to end at once
	asked  int           // how many Signals there were
	events sync.Mutex    // of started

	started time.Time
	times   times
}

// prepareUntil prepares until a signal comes.
func (r *runner) prepareUntil(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case s := <-r.Signals:
			cancel(SignalError{s})
		case <-r.kill:
			cancel(ErrKilled)
		case <-done:
		}
	}()
	err := r.prepare(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// prepare starts the daemon and makes the initrd, at the same time, and
// returns when both are ready. A daemon that refuses ends it at once, so that
// no VM is started for nothing.
func (r *runner) prepare(ctx context.Context) error {
	d, err := r.spawner.startDaemon(r.Config, r.dir, r.event)
	if err != nil {
		return err
	}
	r.daemon = d
	if r.BuildInitrd != nil {
		r.build, err = r.spawner.start("mkinitrd", r.BuildInitrd(r.files.Initrd), nil, r.ErrOut)
		if err != nil {
			return err
		}
	}
	limit := readyLimit
	if r.Fetched != nil {
		limit = fetchLimit
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.waitReady(ctx.Done(), limit) })
	g.Go(func() error { return r.makeInitrd(ctx) })
	g.Go(func() error { return r.startHelpers(ctx) })
	return g.Wait()
}

func (r *runner) makeInitrd(ctx context.Context) error {
	if r.build == nil {
		if err := copyInitrd(r.files.Initrd, r.Initrd); err != nil {
			return err
		}
	} else {
		select {
		case <-r.build.done:
		case <-ctx.Done():
			return errCanceled
		}
		if r.build.err != nil {
			return r.build.failure()
		}
	}
	if r.RunSpec != nil {
		if err := appendRunSpec(r.files.Initrd, r.RunSpec); err != nil {
			return err
		}
	}
	r.times.initrd = time.Now()
	return nil
}

// cleanUp leaves nothing: first the VM, then what it needs, then the files.
func (r *runner) cleanUp(result *Result, err error) {
	if r.vm != nil {
		r.vm.close()
	}
	if r.restore != nil {
		r.restore()
	}
	if r.build != nil {
		r.build.stop(0)
	}
	if r.daemon != nil {
		r.daemon.stop(daemonStay)
	}
	for _, h := range r.helpers {
		h.stop(daemonStay)
	}
	r.spawner.close()
	if r.finally != nil {
		r.finally()
	}
	if err := r.leave(result, err); err != nil {
		r.Log.Warn("remove VM directory", "error", err)
	}
}

// wait waits for the end of the VM, for whatever reason.
func (r *runner) wait(ctx context.Context) (*Result, error) {
	var timeout, stay, lostStay <-chan time.Time
	var lost *process
	if r.Timeout > 0 {
		t := time.NewTimer(r.Timeout)
		defer t.Stop()
		timeout = t.C
	}
	for daemonDone := r.daemon.done; ; {
		select {
		case s := <-r.Signals:
			limit, err := r.pass(s)
			if err != nil {
				return nil, err
			}
			if limit > 0 {
				stay = time.After(limit)
			}
		case <-r.Resized:
			r.tellSize()
		case <-r.kill:
			return nil, ErrKilled
		case p := <-r.helperEnded:
			// It ends by itself when the monitor has gone, which is then about to end.
			lost, lostStay = p, time.After(endStay)
		case <-lostStay:
			return nil, fmt.Errorf("%s %s, and the VM with it", lost.name, lost.cause())
		case <-r.vm.done:
			return r.finish(ctx)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timeout:
			return nil, fmt.Errorf("%w: it took longer than %v", ErrTimeout, r.Timeout)
		case err := <-r.vm.broken: // its output or input
			return nil, err
		case <-r.vm.ended:
			stay = time.After(endStay)
			if e := r.vm.end(); e != vmm.EndPowerOff && r.Hypervisor.BootsAgain() {
				stay = time.After(0)
			}
		case <-r.daemon.report:
			if rep := r.daemon.lastReport(); rep.Outcome != bootproto.OutcomeHandover {
				stay = time.After(reportStay)
			}
		case <-daemonDone:
			daemonDone = nil
			<-r.daemon.drain
			// It ends by itself when the VMM has gone, and the VMM is about to.
			if !r.daemon.has(bootproto.EventDisconnected) {
				return nil, r.daemonDied()
			}
			stay = time.After(endStay)
		case <-stay:
			// All that is worth knowing is known.
			r.vm.stop(0)
			r.vm.killed = true
			stay = nil
		}
	}
}

// finish gathers the result when the monitor's process has ended.
func (r *runner) finish(ctx context.Context) (*Result, error) {
	if err := r.vm.finish(ctx); err != nil {
		return nil, err
	}
	// The daemon tells the rest and ends when the connection does. If it has not
	// told of one by now, there has been none.
	for _, stay := range []time.Duration{deathStay, daemonStay} {
		select {
		case <-r.daemon.drain:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(stay):
			if r.daemon.has(bootproto.EventConnected) {
				continue
			}
		}
		break
	}
	r.times.ended = time.Now()
	if err := r.daemon.failed(); err != nil {
		return nil, err
	}
	res := &Result{
		Report: r.daemon.lastReport(), End: r.vm.end(), VMM: r.Hypervisor.Name(),
		Panic: r.vm.scan.panic, Restarting: r.vm.scan.restarting, LastLine: r.vm.scan.last,
	}
	if res.Report == nil {
		res.Report = r.vm.scan.report
	}
	if res.Report == nil {
		res.Console = r.vm.scan.lines
	}
	if r.vm.process.err != nil && !r.vm.killed {
		res.VMMFailure = r.vm.cause()
	}
	if res.VMMFailure != "" && res.Report == nil {
		// It may be the consequence of another death, which has been first but
		// need not be heard of first.
		select {
		case <-r.daemon.done:
			<-r.daemon.drain
			if !r.daemon.has(bootproto.EventDisconnected) {
				return nil, r.daemonDied()
			}
		case <-time.After(deathStay):
		}
	}
	return res, nil
}

func (r *runner) daemonDied() error {
	return fmt.Errorf("the store daemon %s %s, and the VM with it", daemonName, r.daemon.cause())
}
