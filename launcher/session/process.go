package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"storeboot/launcher/vmm"
)

// spawner starts processes from one thread that lives until it is closed: the
// signal that a child gets at its parent's death is in truth sent at the death
// of the thread that started it (prctl(2)).
type spawner struct {
	jobs chan func()
	done chan struct{}
	// affinity are the processors that the next child may run on; nil for all.
	affinity []int
}

func newSpawner() *spawner {
	s := &spawner{jobs: make(chan func()), done: make(chan struct{})}
	go func() {
		runtime.LockOSThread()
		defer close(s.done)
		defer runtime.UnlockOSThread()
		for job := range s.jobs {
			job()
		}
	}()
	return s
}

// close ends the thread; all children have ended by then.
func (s *spawner) close() {
	close(s.jobs)
	<-s.done
}

// process is a child in a process group of its own.
type process struct {
	name   string
	cmd    *exec.Cmd
	errors *tail         // the end of its standard error
	done   chan struct{} // closed when it has ended
	err    error         // as exec.Cmd.Wait, valid then
	once   sync.Once
}

// start starts c. Its standard input is empty; its standard error is kept, and
// copied to errOut if that is not nil. files become descriptors 3 and up; they
// are closed here in any case.
func (s *spawner) start(name string, c vmm.Command, out, errOut io.Writer, files ...*os.File) (*process, error) {
	p := &process{name: name, cmd: exec.Command(c.Path, c.Args...), errors: &tail{also: errOut}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, p.errors
	p.cmd.ExtraFiles = files
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// A grandchild may hold standard error open.
	p.cmd.WaitDelay = time.Second
	started := make(chan error)
	affinity := s.affinity
	s.affinity = nil
	s.jobs <- func() {
		back, err := pin(affinity)
		if err == nil {
			err = p.cmd.Start()
			back()
		}
		started <- err
	}
	err := <-started
	for _, f := range files {
		_ = f.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		if errors.Is(p.err, exec.ErrWaitDelay) {
			p.err = nil
		}
		close(p.done)
	}()
	return p, nil
}

// pin lets this thread, and what it starts, run on some processors only. back
// undoes it.
func pin(cpus []int) (back func(), err error) {
	if cpus == nil {
		return func() {}, nil
	}
	var old unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		return nil, os.NewSyscallError("sched_getaffinity", err)
	}
	set := cpuSet(cpus)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("run on processors %v: %w (this host may not have them)", cpus, err)
	}
	return func() { _ = unix.SchedSetaffinity(0, &old) }, nil
}

func cpuSet(cpus []int) (set unix.CPUSet) {
	for _, c := range cpus {
		set.Set(c)
	}
	return set
}

// ended says whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop ends the process with its group: at once, or with SIGTERM first if there
// is a grace for it, and returns when it has ended.
func (p *process) stop(grace time.Duration) {
	p.once.Do(func() {
		if grace > 0 {
			p.signal(syscall.SIGTERM)
			select {
			case <-p.done:
			case <-time.After(grace):
			}
		}
		p.signal(syscall.SIGKILL)
	})
	<-p.done
}

// signal sends sig to the process and its group, unless it has ended: then the
// number may be another's.
func (p *process) signal(sig syscall.Signal) {
	if !p.ended() {
		_ = syscall.Kill(-p.cmd.Process.Pid, sig)
	}
}

// cause says in a few words how the process ended, with its last words if it
// had any.
func (p *process) cause() string {
	how := "ended by itself"
	var exit *exec.ExitError
	switch {
	case errors.As(p.err, &exit):
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			how = fmt.Sprintf("was killed by signal %d (%v)", ws.Signal(), ws.Signal())
		} else {
			how = fmt.Sprintf("ended with exit status %d", exit.ExitCode())
		}
	case p.err != nil:
		how = "ended: " + p.err.Error()
	}
	if line := p.errors.lastLine(); line != "" {
		how += ": " + line
	}
	return how
}

// failure is the error of a helper of ours that failed: its own last line,
// which names the thing and the way out, if it has one.
func (p *process) failure() error {
	line := p.errors.lastLine()
	if own, ok := strings.CutPrefix(line, p.name+": "); ok {
		return errors.New(own)
	}
	return fmt.Errorf("%s %s", p.name, p.cause())
}

// tail keeps the end of what is written to it.
type tail struct {
	also io.Writer

	mu  sync.Mutex
	buf []byte
}

// maxTail is how much a tail keeps, in bytes: some lines.
const maxTail = 16 << 10

func (t *tail) Write(b []byte) (int, error) {
	if t.also != nil {
		_, _ = t.also.Write(b)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if n := len(t.buf) - maxTail; n > 0 {
		t.buf = append(t.buf[:0], t.buf[n:]...)
	}
	return len(b), nil
}

// lastLine is the last line that says something. A usage error's second line,
// which only names the help, does not.
func (t *tail) lastLine() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(t.buf, []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		line := printable(string(lines[i]))
		if line != "" && !(strings.Contains(line, ": see '") && strings.HasSuffix(line, "--help'")) {
			return line
		}
	}
	return ""
}
