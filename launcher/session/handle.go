package session

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"storeboot/internal/bootproto"
	"storeboot/launcher/guestagent"
	"storeboot/launcher/rundir"
	"storeboot/launcher/vmm"
)

// Handle is a running session for those that want something of it. Its methods
// may be called at any time, by several goroutines.
type Handle struct {
	r   *runner
	mux *guestagent.Mux
}

// ErrKilled is returned by Run if [Handle.Kill] ended the VM.
var ErrKilled = errors.New("the VM was killed")

// termGrace is how long a program has between a SIGTERM to the launcher and the
// end of its VM.
const termGrace = 10 * time.Second

// Dir is the VM's directory.
func (h *Handle) Dir() rundir.Dir { return h.r.dir }

// vm waits for the monitor to have started, for a moment.
func (h *Handle) vm() (*machine, error) {
	select {
	case <-h.r.begun:
		return h.r.vm, nil
	case <-time.After(endStay):
		return nil, errors.New("the VM has not started yet")
	}
}

// agent is the connection to the guest's agent.
func (h *Handle) agent() (*guestagent.Mux, error) {
	vm, err := h.vm()
	if err != nil {
		return nil, err
	}
	h.r.events.Lock()
	defer h.r.events.Unlock()
	if h.mux == nil && vm.agent != nil {
		h.mux = guestagent.New(vm.agent)
	}
	if h.mux == nil {
		return nil, errors.New("this VM was started without an agent (--agent)")
	}
	return h.mux, nil
}

// PowerOff asks the guest to power off: by its agent, or else by its power
// button.
func (h *Handle) PowerOff() error {
	if mux, err := h.agent(); err == nil {
		select {
		case <-mux.Ready():
			return mux.Stop()
		case <-time.After(100 * time.Millisecond):
		}
	}
	vm, err := h.vm()
	if err != nil {
		return err
	}
	return h.r.Hypervisor.PowerButton(vm.conn, &h.r.files.Machine)
}

// Kill ends the VM at once.
func (h *Handle) Kill() {
	select {
	case h.r.kill <- struct{}{}:
	default:
	}
}

// Resize changes the guest's memory.
func (h *Handle) Resize(memory vmm.Size) error {
	vm, err := h.vm()
	if err != nil {
		return err
	}
	return h.r.Hypervisor.Resize(vm.conn, &h.r.files.Machine, memory)
}

// agentWait is how long a client waits for the agent of a guest that boots.
const agentWait = 60 * time.Second

// Exec runs a program in the guest for a client, as [guestagent.Mux.Exec] does.
func (h *Handle) Exec(spec *bootproto.ExecSpec, client io.ReadWriter) error {
	mux, err := h.agent()
	if err != nil {
		return err
	}
	select {
	case <-mux.Ready():
	case <-mux.Done():
	case <-time.After(agentWait):
	}
	return mux.Exec(spec, client)
}

// begin writes the state and lets others in.
func (r *runner) begin() error {
	r.writeState()
	if r.Begin == nil {
		return nil
	}
	var err error
	r.handle = &Handle{r: r}
	r.finally, err = r.Begin(r.handle)
	return err
}

// writeState says what the VM is. Nobody needs it to go on.
func (r *runner) writeState() {
	s := r.State
	s.VM, s.PID, s.Started = r.dir.Name(), os.Getpid(), r.started
	if r.vm != nil {
		s.VMMPID = r.vm.cmd.Process.Pid
	}
	r.State = s
	if err := r.dir.Write(&s); err != nil {
		r.Log.Warn("write the VM's state", "error", err)
	}
}

// leave removes the VM's directory, or all but what is kept.
func (r *runner) leave(result *Result, err error) error {
	if r.Keep == nil {
		return r.dir.Remove()
	}
	now := time.Now()
	r.State.Ended, r.State.VMMPID = &now, 0
	r.State.Status, r.State.Message = 1, ""
	if result != nil {
		r.State.Status, err = result.Status()
	} else if errors.Is(err, ErrKilled) {
		r.State.Status = 128 + int(syscall.SIGKILL)
	} else if errors.Is(err, ErrTimeout) {
		r.State.Status = bootproto.StatusTimeout
	}
	if err != nil {
		r.State.Message = err.Error()
	}
	if err := r.dir.Write(&r.State); err != nil {
		return errors.Join(err, r.dir.Remove())
	}
	return r.dir.End(append(r.Keep, rundir.StateFile)...)
}

// event notes what the store daemon tells.
func (r *runner) event(kind bootproto.EventKind) {
	r.times.event(kind)
	if kind == bootproto.EventMounted && r.Started != nil {
		r.Started()
	}
}

// SignalError is the cause of a VM's end by a signal to the launcher.
type SignalError struct{ Signal syscall.Signal }

func (e SignalError) Error() string { return fmt.Sprintf("signal %d (%v)", e.Signal, e.Signal) }

// pass passes a signal on to the program, or has the system power off. The
// guest has limit to end, 0 for as long as it likes. Whoever repeats it does not
// want to wait.
func (r *runner) pass(s syscall.Signal) (limit time.Duration, err error) {
	r.asked++
	if r.asked > 1 || s != syscall.SIGINT && s != syscall.SIGTERM {
		return 0, SignalError{s}
	}
	if r.vm.control != nil {
		err = r.tell(bootproto.Control{Signal: int(s)})
	} else {
		err = (&Handle{r: r}).PowerOff()
		if r.handle != nil {
			err = r.handle.PowerOff()
		}
	}
	if err != nil {
		return 0, SignalError{s}
	}
	if s == syscall.SIGTERM {
		return termGrace, nil
	}
	return 0, nil
}

// tell sends one line to init.
func (r *runner) tell(c bootproto.Control) error {
	line, err := c.Line()
	if err != nil {
		return err
	}
	if err := r.vm.control.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, err = r.vm.control.Write(line)
	return err
}

// tellSize sends the terminal's size.
func (r *runner) tellSize() {
	if r.Terminal == nil || r.vm.control == nil {
		return
	}
	if rows, columns := r.Terminal.Size(); rows > 0 && columns > 0 {
		_ = r.tell(bootproto.Control{Rows: rows, Columns: columns}) // the next change comes
	}
}

// ConsoleError is an error with what the guest's kernel said before.
type ConsoleError struct {
	Err   error
	Lines []string
}

func (e *ConsoleError) Error() string { return e.Err.Error() }
func (e *ConsoleError) Unwrap() error { return e.Err }

// withConsole adds the console's last lines to an error of a VM that had begun.
func (r *runner) withConsole(err error) error {
	var sig SignalError
	if err == nil || r.vm == nil || errors.As(err, &sig) || errors.Is(err, ErrKilled) || errors.Is(err, syscall.EPIPE) || errors.Is(err, errEscape) {
		return err
	}
	r.vm.stop(0)
	for _, o := range r.vm.outputs {
		o.finish()
	}
	select {
	case <-r.vm.outputs[0].done: // the kernel's console is the first
		if len(r.vm.scan.lines) > 0 {
			return &ConsoleError{err, r.vm.scan.lines}
		}
	case <-time.After(time.Second):
	}
	return err
}
