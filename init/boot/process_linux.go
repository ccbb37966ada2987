package boot

import (
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// grace is how long processes get between SIGTERM and SIGKILL, and init waits
// for the kernel to end them after SIGKILL.
const grace = 500 * time.Millisecond

// reapPoll is the pause between two looks for ended processes.
const reapPoll = 2 * time.Millisecond

func (m *machine) Start(p *Program) (int, error) {
	attr := &syscall.ProcAttr{Dir: p.Dir, Env: p.Env, Sys: &syscall.SysProcAttr{Setsid: p.Session, Chroot: p.Root}}
	in, out, errOut := -1, -1, -1
	if p.Log == nil {
		t, ok := p.Terminal.(*device)
		if !ok {
			return 0, fmt.Errorf("%T is not a device", p.Terminal)
		}
		in, out, errOut = t.fd, t.fd, t.fd
	}
	m.output = &sync.WaitGroup{}
	// pipe makes one that read reads from. Our end of what the program writes to
	// is closed once it has its own.
	var ours []int
	defer func() {
		for _, fd := range ours {
			_ = unix.Close(fd)
		}
	}()
	pipe := func(read func(fd int)) (int, error) {
		var ends [2]int
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
			return -1, fmt.Errorf("make a pipe: %w", err)
		}
		ours = append(ours, ends[1])
		if u := p.User; u != nil {
			// So that it can open /dev/stdout anew.
			_ = unix.Fchown(ends[1], int(u.UID), int(u.GID))
		}
		m.output.Go(func() {
			read(ends[0])
			_ = unix.Close(ends[0])
		})
		return ends[1], nil
	}
	if p.Log != nil {
		var err error
		if out, err = pipe(func(fd int) { readLines(fd, p.Log) }); err != nil {
			return 0, err
		}
		errOut = out
	}
	for _, o := range []struct {
		device string
		fd     *int
	}{{p.Stdout, &out}, {p.Stderr, &errOut}} {
		if o.device == "" {
			continue
		}
		to, err := open(o.device, unix.O_WRONLY)
		if err != nil {
			return 0, fmt.Errorf("open %s for the program's output: %w", o.device, err)
		}
		if *o.fd, err = pipe(func(from int) { passOn(to, from) }); err != nil {
			_ = unix.Close(to)
			return 0, err
		}
	}
	if p.Input != "" {
		fd, err := open(p.Input, unix.O_RDONLY)
		if err != nil {
			return 0, fmt.Errorf("open the program's input: %w", err)
		}
		defer unix.Close(fd)
		in = fd
	}
	if u := p.User; u != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	attr.Files = []uintptr{uintptr(in), uintptr(out), uintptr(errOut)}
	return syscall.ForkExec(p.Argv[0], p.Argv, attr)
}

// maxLine is where a line of a program's output is cut into two.
const maxLine = 800

// readLines gives each line that is read from fd to log, until its end.
func readLines(fd int, log func(string)) {
	var line []byte
	buf := make([]byte, 4096)
	for {
		n, err := rawFile(fd).Read(buf)
		for _, c := range buf[:n] {
			if c != '\n' {
				line = append(line, c)
			}
			if c == '\n' || len(line) == maxLine {
				log(string(line))
				line = line[:0]
			}
		}
		if err != nil {
			if len(line) > 0 {
				log(string(line))
			}
			return
		}
	}
}

// passOn moves what the pipe from holds to the device to, which it closes at the
// end: for a virtio-serial port that returns once the VMM has heard of it, and
// thus has all that was written. An error of the device leaves nobody to tell,
// and the program sees a broken pipe.
func passOn(to, from int) {
	defer unix.Close(to)
	const piece = 1 << 20 // whatever the pipe holds
	buf := make([]byte, 0)
	for {
		if len(buf) == 0 {
			// A port takes an empty pipe for its end: its driver does not wait for
			// more (drivers/char/virtio_console.c, port_fops_splice_write).
			if !readable(from) {
				return
			}
			n, err := retry(func() (int64, error) { return unix.Splice(from, nil, to, nil, piece, 0) })
			switch {
			case n > 0:
				continue
			case err == nil:
				return
			case err != unix.EINVAL && err != unix.ENOSYS:
				return
			}
			buf = make([]byte, 64<<10) // the device cannot
		}
		n, err := rawFile(from).Read(buf)
		if err != nil || writeAll(to, buf[:n]) != nil {
			return
		}
	}
}

// readable waits until the pipe holds something; false means that it never will.
func readable(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	_, err := retry(func() (int, error) { return unix.Poll(p, -1) })
	return err == nil && p[0].Revents&unix.POLLIN != 0
}

// writeAll writes all of p. The device may be in non-blocking mode, or take less
// at a time.
func writeAll(fd int, p []byte) error {
	_, err := (&device{fd: fd}).Write(p)
	return err
}

func (m *machine) DrainOutput(limit time.Duration) {
	if m.output == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		m.output.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

func (*machine) Lines(path string, f func(string)) error {
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	go func() {
		readLines(fd, f)
		_ = unix.Close(fd)
	}()
	return nil
}

// process is a pidfd.
type process int

func (*machine) Process(pid int) (Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	return process(fd), err
}

func (p process) Signal(signal int) error {
	return unix.PidfdSendSignal(int(p), unix.Signal(signal), nil, 0)
}

func (p process) Close() error { return unix.Close(int(p)) }

// KillAfter uses a descriptor of the process: its number may be another's by
// the time that the limit is over.
func (*machine) KillAfter(pid int, limit time.Duration) func() bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return func() bool { return false }
	}
	var mu sync.Mutex
	killed, ended := false, false
	kill := func(s unix.Signal) {
		mu.Lock()
		defer mu.Unlock()
		if !ended && unix.PidfdSendSignal(fd, s, nil, 0) == nil {
			killed = true
		}
	}
	term := time.AfterFunc(limit, func() { kill(unix.SIGTERM) })
	force := time.AfterFunc(limit+grace, func() { kill(unix.SIGKILL) })
	return func() bool {
		term.Stop()
		force.Stop()
		mu.Lock()
		defer mu.Unlock()
		ended = true
		_ = unix.Close(fd)
		return killed
	}
}

func (*machine) Wait() (int, ExitStatus, error) {
	var status unix.WaitStatus
	pid, err := retry(func() (int, error) { return unix.Wait4(-1, &status, unix.WALL, nil) })
	if err != nil {
		return 0, ExitStatus{}, err
	}
	if status.Signaled() {
		return pid, ExitStatus{Signal: int(status.Signal())}, nil
	}
	return pid, ExitStatus{Code: status.ExitStatus()}, nil
}

func (*machine) EndProcesses() {
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		// To all but PID 1. The error is that there is none.
		if err := unix.Kill(-1, signal); err != nil {
			break
		}
		// A stopped process does not take the first.
		_ = unix.Kill(-1, unix.SIGCONT)
		if reapAll(grace) {
			return
		}
	}
	reapAll(0)
}

// reapAll reaps until no child is left, and says whether it came so far within
// limit. What its parent leaves behind becomes a child of PID 1.
func reapAll(limit time.Duration) bool {
	for deadline := time.Now().Add(limit); ; {
		pid, err := retry(func() (int, error) { return unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil) })
		switch {
		case err != nil: // ECHILD
			return true
		case pid > 0:
		case time.Now().After(deadline):
			return false
		default:
			time.Sleep(reapPoll)
		}
	}
}
