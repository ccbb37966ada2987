package tests

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// terminal is a program on a pseudo-terminal, with all that it printed.
type terminal struct {
	t   *testing.T
	pty *os.File

	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // a token when text grew
}

func newTerminal(t *testing.T, f *os.File) *terminal {
	term := &terminal{t: t, pty: f, more: make(chan struct{}, 1)}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			term.mu.Lock()
			term.text.Write(buf[:n])
			term.mu.Unlock()
			select {
			case term.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	return term
}

func (term *terminal) String() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.text.String()
}

// expect waits until want stands in what was printed after position from, and
// returns the position behind it.
func (term *terminal) expect(from int, want string) int {
	term.t.Helper()
	limit := time.After(bootLimit)
	for {
		if s := term.String(); len(s) >= from {
			if i := strings.Index(s[from:], want); i >= 0 {
				return from + i + len(want)
			}
		}
		select {
		case <-term.more:
		case <-limit:
			term.t.Fatalf("no %q within %v in:\n%s", want, bootLimit, term)
		}
	}
}

// typeLine types a line as a person does.
func (term *terminal) typeLine(s string) {
	term.t.Helper()
	if _, err := term.pty.WriteString(s + "\r"); err != nil {
		term.t.Fatal(err)
	}
}

// TestShell types into the interactive shell of a VM.
func TestShell(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	path := w.addGuestProg()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	cmd := w.command(ctx, []string{"TERM=xterm"}, "launcher", "shell")
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 99})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	term := newTerminal(t, f)
	at := term.expect(0, "$ ")
	// The quotes keep the echo of the line from being taken for the answer.
	term.typeLine("echo rea''dy")
	at = term.expect(at, "ready")
	term.typeLine("ls /nix/store")
	at = term.expect(at, path[len("/nix/store/"):])
	term.typeLine("find " + path + " | wc -l")
	at = term.expect(at, "5")
	term.typeLine("for i in 1 2; do echo n''$i; done; ps | grep -c init; dmesg | grep -c Linux")
	term.expect(at, "n2")
	term.typeLine("exit")
	err = cmd.Wait()
	if err != nil {
		t.Fatalf("launcher shell: %v\n%s", err, term)
	}
}
