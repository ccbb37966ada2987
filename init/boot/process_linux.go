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
	in, out := -1, -1
	if p.Log != nil {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			return 0, fmt.Errorf("make a pipe: %w", err)
		}
		out = pipe[1]
		// Our end of it is closed once the program has its own.
		defer unix.Close(pipe[1])
		m.output = make(chan struct{})
		go readLines(pipe[0], p.Log, m.output)
	} else {
		t, ok := p.Terminal.(*device)
		if !ok {
			return 0, fmt.Errorf("%T is not a device", p.Terminal)
		}
		in, out = t.fd, t.fd
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
	attr.Files = []uintptr{uintptr(in), uintptr(out), uintptr(out)}
	return syscall.ForkExec(p.Argv[0], p.Argv, attr)
}

// maxLine is where a line of a program's output is cut into two.
const maxLine = 800

// readLines gives each line that is read from fd to log, closes fd at its end
// and then done.
func readLines(fd int, log func(string), done chan<- struct{}) {
	defer close(done)
	defer unix.Close(fd)
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

func (m *machine) DrainOutput(limit time.Duration) {
	select {
	case <-m.output:
	case <-time.After(limit):
	}
}

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
