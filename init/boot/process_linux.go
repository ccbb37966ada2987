package boot

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// grace is how long processes get between SIGTERM and SIGKILL, and init waits
// for the kernel to end them after SIGKILL.
const grace = 500 * time.Millisecond

// reapPoll is the pause between two looks for ended processes.
const reapPoll = 2 * time.Millisecond

func (*machine) Start(p *Program) (int, error) {
	t, ok := p.Terminal.(*device)
	if !ok {
		return 0, fmt.Errorf("%T is not a device", p.Terminal)
	}
	in := t.fd
	if p.Input != "" {
		fd, err := open(p.Input, unix.O_RDONLY)
		if err != nil {
			return 0, fmt.Errorf("open the program's input: %w", err)
		}
		defer unix.Close(fd)
		in = fd
	}
	return syscall.ForkExec(p.Argv[0], p.Argv, &syscall.ProcAttr{
		Dir:   p.Dir,
		Env:   p.Env,
		Files: []uintptr{uintptr(in), uintptr(t.fd), uintptr(t.fd)},
		Sys:   &syscall.SysProcAttr{Setsid: p.Session},
	})
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
