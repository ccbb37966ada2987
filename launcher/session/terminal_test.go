package session

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// TestTerminal runs a session on a pseudo-terminal: keys reach the guest as
// they are typed, and the terminal is put back.
func TestTerminal(t *testing.T) {
	user, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	defer tty.Close()
	if err := pty.Setsize(user, &pty.Winsize{Rows: 33, Cols: 99}); err != nil {
		t.Fatal(err)
	}
	before, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	term := NewTerminal(tty, tty)
	if term == nil {
		t.Fatal("not taken for a terminal")
	}
	if rows, columns := term.Size(); rows != 33 || columns != 99 {
		t.Errorf("size %d x %d", rows, columns)
	}
	base := shortDir(t)
	c := testConfig(base, "serve", "good", "say=ready|echo|exited=0", tty)
	c.Input, c.Terminal = tty, term
	done := make(chan error, 1)
	go func() {
		_, err := Run(t.Context(), c)
		done <- err
	}()
	var seen bytes.Buffer
	expect := func(want string) {
		t.Helper()
		buf := make([]byte, 1024)
		for !strings.Contains(seen.String(), want) {
			n, err := user.Read(buf)
			if err != nil {
				t.Fatalf("%v after %q", err, seen.String())
			}
			seen.Write(buf[:n])
		}
	}
	expect("ready\n") // and not "ready\r\n": the guest's terminal does that
	// Ctrl-C is a key like any other.
	if _, err := user.WriteString("key\x03s\n"); err != nil {
		t.Fatal(err)
	}
	expect("typed key\x03s\n")
	if err := <-done; err != nil {
		t.Error(err)
	}
	after, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if *after != *before {
		t.Errorf("terminal settings %+v, before %+v", after, before)
	}
	checkClean(t, base, true)
}

func TestEscape(t *testing.T) {
	key := string(rune(escapeKey))
	tests := []struct {
		name  string
		typed []string
		pause time.Duration // before each
		ends  bool
	}{
		{"at once", []string{"abc" + key + key + key + "x"}, 0, true},
		{"one by one", []string{key, key, key}, 300 * time.Millisecond, true},
		{"too slowly", []string{key, key, key, key, key}, 600 * time.Millisecond, false},
		{"with another between", []string{key + key + "x" + key + key}, 0, false},
		{"twice", []string{key, key}, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var readers []io.Reader
			for _, s := range tt.typed {
				readers = append(readers, strings.NewReader(s))
			}
			now := time.Unix(0, 0)
			e := &escape{r: io.MultiReader(readers...), now: func() time.Time { now = now.Add(tt.pause); return now }}
			var err error
			for buf := make([]byte, 100); err == nil; {
				_, err = e.Read(buf)
			}
			if errors.Is(err, errEscape) != tt.ends {
				t.Errorf("%v, want an end: %v", err, tt.ends)
			}
		})
	}
}

func TestIsEmptyInput(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if !IsEmptyInput(null) || IsEmptyInput(r) {
		t.Errorf("/dev/null: %v, a pipe: %v", IsEmptyInput(null), IsEmptyInput(r))
	}
	_ = r.Close()
	if !IsEmptyInput(r) || !IsEmptyInput(strings.NewReader("x")) {
		t.Error("a closed file, or no file, is taken for input")
	}
	if NewTerminal(null, os.Stdout) != nil {
		t.Error("/dev/null is taken for a terminal")
	}
}
