package boot

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// drainLimit is how long to wait for the last output of a program after its
// end: what it leaves running may hold the pipe for ever.
const drainLimit = 200 * time.Millisecond

// runLogged runs a program that reads nothing to its end, and makes its output
// part of the kernel's log, each line with the prefix. One that fails is an error
// that has its last words.
func (b *boot) runLogged(p *Program, prefix string) error {
	var mu sync.Mutex
	last := ""
	p.Input, p.Session = p.Root+"/dev/null", true
	p.Log = func(line string) {
		b.log.info(prefix + line)
		mu.Lock()
		defer mu.Unlock()
		if strings.TrimSpace(line) != "" {
			last = line
		}
	}
	pid, err := b.sys.Start(p)
	if err != nil {
		return &startError{err}
	}
	status, err := b.waitFor1(pid)
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	b.sys.DrainOutput(drainLimit)
	mu.Lock()
	defer mu.Unlock()
	switch {
	case status == ExitStatus{}:
		return nil
	case last == "":
		return fmt.Errorf("%s", status)
	}
	return fmt.Errorf("%s; its last words: %q", status, last)
}

// startError says that a program did not start.
type startError struct{ err error }

func (e *startError) Error() string { return "start: " + e.err.Error() }
func (e *startError) Unwrap() error { return e.err }

// waitFor1 reaps whatever ends until the process pid does.
func (b *boot) waitFor1(pid int) (ExitStatus, error) {
	for {
		ended, status, err := b.sys.Wait()
		if err != nil || ended == pid {
			return status, err
		}
	}
}
