package agent

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"storeboot/internal/bootproto"
)

// lateOutput is how long output may still come after the program's end from
// what it has left running.
const lateOutput = 500 * time.Millisecond

// endOfText is what ends a terminal's input: Ctrl-D.
const endOfText = 0x04

// defaultPath is where programs are looked for: those of a NixOS system first.
const defaultPath = "/run/current-system/sw/bin:/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin"

// stream is one running program.
type stream struct {
	agent *Agent
	id    uint32
	pid   int

	stdin   *os.File
	outputs []output
	pty     *os.File // nil without a terminal
	input   *queue
	credit  *credit // of output
}

type output struct {
	from *os.File
	as   bootproto.FrameType
}

// start starts the program. A failure has the exit status that a shell would
// give it.
func start(a *Agent, id uint32, spec *bootproto.ExecSpec) (_ *stream, status int, err error) {
	env := environment(spec.Env)
	path, status, err := lookUp(spec.Argv[0], env)
	if err != nil {
		return nil, status, err
	}
	s := &stream{agent: a, id: id, input: newQueue(), credit: newCredit(bootproto.AgentWindow)}
	attr := &syscall.ProcAttr{Dir: "/", Env: env, Sys: &syscall.SysProcAttr{Setsid: true}}
	if spec.Dir != "" {
		attr.Dir = spec.Dir
	}
	if u := spec.User; u != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	var theirs []*os.File
	if spec.Terminal {
		theirs, err = s.openTerminal(uint16(spec.Rows), uint16(spec.Columns))
		attr.Sys.Setctty = true // its descriptor 0
	} else {
		theirs, err = s.openPipes()
	}
	if err != nil {
		s.close()
		return nil, 1, err
	}
	defer func() {
		for _, f := range theirs {
			_ = f.Close()
		}
	}()
	for _, i := range []int{0, len(theirs) - 2, len(theirs) - 1} {
		attr.Files = append(attr.Files, theirs[max(i, 0)].Fd())
	}
	if s.pid, err = syscall.ForkExec(path, spec.Argv, attr); err != nil {
		s.close()
		return nil, 126, fmt.Errorf("execute %s: %w", path, err)
	}
	return s, 0, nil
}

// openPipes makes three; the program's ends are returned.
func (s *stream) openPipes() (theirs []*os.File, err error) {
	for i := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			return theirs, fmt.Errorf("make a pipe: %w", err)
		}
		switch i {
		case 0:
			s.stdin = w
			theirs = append(theirs, r)
		case 1:
			s.outputs = append(s.outputs, output{r, bootproto.FrameStdout})
			theirs = append(theirs, w)
		case 2:
			s.outputs = append(s.outputs, output{r, bootproto.FrameStderr})
			theirs = append(theirs, w)
		}
	}
	return theirs, nil
}

// openTerminal makes a pseudo-terminal (pty(7)); the program's end is returned.
func (s *stream) openTerminal(rows, columns uint16) (theirs []*os.File, err error) {
	if s.pty, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	n := 0
	err = s.control(func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return os.NewSyscallError("unlock the terminal", err)
		}
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return os.NewSyscallError("name the terminal", err)
	})
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the terminal: %w", err)
	}
	s.stdin = s.pty
	s.outputs = []output{{s.pty, bootproto.FrameStdout}}
	s.resize(rows, columns)
	return []*os.File{f}, nil
}

func (s *stream) resize(rows, columns uint16) {
	if s.pty != nil && rows > 0 && columns > 0 {
		_ = s.control(func(fd int) error {
			return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
		})
	}
}

// control calls f with the terminal's descriptor. [os.File.Fd] would make its
// reads block, so that a close could not end them.
func (s *stream) control(f func(fd int) error) error {
	c, err := s.pty.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	err = c.Control(func(fd uintptr) { done = f(int(fd)) })
	return errors.Join(err, done)
}

// signal reaches the program's session leader and its group.
func (s *stream) signal(sig unix.Signal) { _ = unix.Kill(-s.pid, sig) }

func (s *stream) close() {
	if s.stdin != nil {
		_ = s.stdin.Close()
	}
	for _, o := range s.outputs {
		_ = o.from.Close()
	}
	if s.pty != nil {
		_ = s.pty.Close()
	}
}

// run passes input and output on until the program has ended.
func (s *stream) run() {
	go s.feed()
	done := make(chan struct{})
	var outputs sync.WaitGroup
	for _, o := range s.outputs {
		outputs.Go(func() { s.drain(o) })
	}
	go func() {
		outputs.Wait()
		close(done)
	}()
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(s.pid, &status, 0, nil)
		if err != unix.EINTR {
			break
		}
	}
	select {
	case <-done:
	case <-time.After(lateOutput):
		s.credit.waitTaken(done) // a slow reader is no late output
	}
	s.agent.mu.Lock()
	delete(s.agent.streams, s.id)
	s.agent.mu.Unlock()
	s.input.close()
	s.credit.close()
	s.close()
	r := bootproto.Report{Outcome: bootproto.OutcomeExited, Status: status.ExitStatus()}
	if status.Signaled() {
		r = bootproto.Report{Outcome: bootproto.OutcomeSignaled, Signal: int(status.Signal())}
	}
	s.agent.exit(s.id, r)
}

// feed writes what comes to the program's input. A program that does not read
// it any more loses it.
func (s *stream) feed() {
	broken := false
	for {
		data, ok := s.input.get()
		if !ok {
			return
		}
		if len(data) == 0 {
			if s.pty != nil {
				_, _ = s.pty.Write([]byte{endOfText})
			} else {
				_ = s.stdin.Close()
			}
			broken = true
			continue
		}
		if !broken {
			_, err := s.stdin.Write(data)
			broken = err != nil
		}
		_ = s.agent.send(bootproto.TakenFrame(s.id, len(data)))
	}
}

// drain sends the program's output. The end of a terminal is EIO.
func (s *stream) drain(o output) {
	buf := make([]byte, 32<<10)
	for {
		n, err := o.from.Read(buf)
		if n > 0 {
			if !s.credit.take(n) || s.agent.send(bootproto.Frame{Type: o.as, Stream: s.id, Data: buf[:n]}) != nil {
				return
			}
		}
		if err != nil {
			_ = s.agent.send(bootproto.Frame{Type: o.as, Stream: s.id})
			return
		}
	}
}

// environment is what a program gets, changes last.
func environment(changes []string) []string {
	env := []string{"PATH=" + defaultPath, "HOME=/root", "TERM=dumb"}
	for _, kv := range changes {
		key, _, _ := strings.Cut(kv, "=")
		for i, have := range env {
			if strings.HasPrefix(have, key+"=") {
				env = append(env[:i], env[i+1:]...)
				break
			}
		}
		env = append(env, kv)
	}
	return env
}

// lookUp finds a program as a shell does.
func lookUp(name string, env []string) (path string, status int, err error) {
	dirs := []string{""}
	if !strings.Contains(name, "/") {
		for _, kv := range env {
			if p, ok := strings.CutPrefix(kv, "PATH="); ok {
				dirs = strings.Split(p, ":")
			}
		}
	}
	status, err = 127, fmt.Errorf("program %s: no such program in the guest", name)
	for _, dir := range dirs {
		path := name
		if dir != "" {
			path = dir + "/" + name
		}
		st, statErr := os.Stat(path)
		switch {
		case statErr != nil:
		case st.IsDir() || st.Mode()&0o111 == 0:
			status, err = 126, fmt.Errorf("program %s: cannot be executed", path)
		default:
			return path, 0, nil
		}
	}
	return "", status, err
}
