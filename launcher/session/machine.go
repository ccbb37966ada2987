package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"storeboot/launcher/vmm"
)

// machine is the running monitor with the guest's consoles.
type machine struct {
	*process
	scan    consoleScan
	outputs []*follower
	input   *os.File      // the FIFO of what is typed, nil for none
	conn    *os.File      // the monitor's events
	control *os.File      // the port for bootproto.Control, nil for none
	agent   *os.File      // that of the guest's agent, nil for none
	ended   chan struct{} // a token when the guest has ended
	broken  chan error    // of an output, or the escape keys; holds one for each source
	events  chan struct{} // closed when the monitor's events have ended
	killed  bool          // by us, after it had done its work

	mu  sync.Mutex
	how vmm.End
}

// startVM makes the consoles, starts the monitor and connects both.
func (r *runner) startVM() error {
	m := &r.files.Machine
	command := r.Hypervisor.Command(m)
	vm := &machine{ended: make(chan struct{}, 1), broken: make(chan error, 8), events: make(chan struct{})}
	for _, c := range []vmm.Console{m.Serial, m.Program} {
		if c.Empty() {
			continue
		}
		if err := makeConsole(c.Output, c.Input); err != nil {
			return fmt.Errorf("make console: %w", err)
		}
	}
	for _, path := range []string{m.Stdout, m.Stderr} {
		if path != "" {
			if err := makeConsole(path, ""); err != nil {
				return fmt.Errorf("make console: %w", err)
			}
		}
	}
	if in := m.Serial.Input + m.Program.Input; in != "" {
		var err error
		if vm.input, err = openInput(in); err != nil {
			return fmt.Errorf("open console: %w", err)
		}
	}
	var theirs []*os.File
	defer func() {
		if r.vm == nil { // it has not started
			closeAll(append(theirs, vm.conn, vm.input, vm.control, vm.agent)...)
		}
	}()
	var err error
	ours := map[vmm.Socket]**os.File{
		vmm.SocketMonitor: &vm.conn, vmm.SocketStdin: &vm.input, vmm.SocketControl: &vm.control, vmm.SocketAgent: &vm.agent,
	}
	for _, s := range command.Sockets {
		var end *os.File
		if *ours[s], end, err = socketPair(string(s)); err != nil {
			return err
		}
		theirs = append(theirs, end)
	}
	if r.Terminal != nil {
		if r.restore, err = r.Terminal.Raw(); err != nil {
			return fmt.Errorf("set terminal: %w", err)
		}
	}
	r.times.vmm = time.Now()
	r.spawner.affinity = r.Affinity
	vm.process, err = r.spawner.start(r.Hypervisor.Name(), command, nil, r.ErrOut, theirs...)
	theirs = nil // start closes them
	if err != nil {
		return err
	}
	r.vm = vm
	close(r.begun)
	r.writeState()
	go vm.monitor(r.Hypervisor)
	if len(m.Pins) > 0 {
		go func() {
			if err := vm.pin(r.Hypervisor, m.Pins); err != nil {
				vm.broken <- err
			}
		}()
	}
	serial := io.Writer(&vm.scan)
	if r.SerialOut != nil {
		serial = io.MultiWriter(&vm.scan, r.SerialOut)
	}
	if err := vm.follow(m.Serial.Output, serial); err != nil {
		return err
	}
	if !m.Program.Empty() {
		if err := vm.follow(m.Program.Output, firstOutput{r}); err != nil {
			return err
		}
	}
	if m.Stderr != "" {
		if err := vm.follow(m.Stdout, firstOutput{r}); err != nil {
			return err
		}
		if err := vm.follow(m.Stderr, r.ProgramErr); err != nil {
			return err
		}
	}
	if vm.input != nil {
		vm.feed(r.Input, r.Terminal != nil, m.Stdin)
	}
	return nil
}

// socketPair makes a connection to the monitor's process; ours has deadlines.
func socketPair(name string) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make %s socket: %w", name, err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_, _ = unix.Close(fds[0]), unix.Close(fds[1])
		return nil, nil, fmt.Errorf("make %s socket: %w", name, err)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// monitor listens to the monitor's events until it closes them.
func (vm *machine) monitor(h vmm.Hypervisor) {
	defer close(vm.events)
	_ = h.Monitor(vm.conn, func(e vmm.End) {
		vm.mu.Lock()
		vm.how = e
		vm.mu.Unlock()
		select {
		case vm.ended <- struct{}{}:
		default:
		}
	})
}

// pin lets the guest's processors run on some of the host's only.
func (vm *machine) pin(h vmm.Hypervisor, pins [][]int) error {
	threads, err := h.Threads(vm.conn)
	if err != nil {
		return fmt.Errorf("pin the guest's processors: %w", err)
	}
	for i, thread := range threads {
		if i >= len(pins) || len(pins[i]) == 0 {
			continue
		}
		set := cpuSet(pins[i])
		// A guest that has ended meanwhile needs no pins.
		if err := unix.SchedSetaffinity(thread, &set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("run processor %d of the guest on processors %v: %w (this host may not have them)", i, pins[i], err)
		}
	}
	return nil
}

func (vm *machine) end() vmm.End {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.how
}

// follow passes a console's output on to w.
func (vm *machine) follow(path string, w io.Writer) error {
	o, err := follow(path, w, func(stop bool) {
		if stop {
			vm.signal(syscall.SIGSTOP)
		} else {
			vm.signal(syscall.SIGCONT)
		}
	})
	if err != nil {
		return err
	}
	vm.outputs = append(vm.outputs, o)
	go func() {
		if <-o.done; o.err != nil {
			vm.broken <- fmt.Errorf("write the guest's output: %w", o.err)
		}
	}()
	return nil
}

// feed types what r holds; with port its end is passed on too.
func (vm *machine) feed(r io.Reader, terminal, port bool) {
	if terminal {
		r = Escape(r)
	}
	go func() {
		err := feed(vm.input, r)
		switch {
		case errors.Is(err, errEscape):
			vm.broken <- err
		case err == nil && port:
			endInput(vm.input)
		}
	}()
}

// endInput ends the stream that a socket sends. It stays open for receiving:
// QEMU drops what it has not read yet when the other end is gone altogether.
func endInput(f *os.File) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) })
	}
}

// finish waits until all that the guest wrote has been passed on, after the
// monitor's process has ended.
func (vm *machine) finish(ctx context.Context) error {
	for _, o := range vm.outputs {
		o.finish()
	}
	for _, o := range vm.outputs {
		select {
		case <-o.done:
			if o.err != nil {
				return fmt.Errorf("write the guest's output: %w", o.err)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	vm.scan.endLine() // a last line need not end
	// The process has gone: its events end.
	select {
	case <-vm.events:
	case <-time.After(endStay):
	}
	return nil
}

// close ends the monitor at once, and all that belongs to it.
func (vm *machine) close() {
	vm.stop(0)
	closeAll(vm.conn, vm.input, vm.control, vm.agent)
	for _, o := range vm.outputs {
		o.close()
	}
}
