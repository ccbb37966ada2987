package main

import (
	"bytes"
	"errors"
	"io"
	"os"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/interp"
)

// errInterrupted says that the interrupt key was pressed while a line was
// edited.
var errInterrupted = errors.New("interrupted")

// Size of a terminal that does not know its own, as a serial line.
const (
	defaultColumns = 80
	defaultRows    = 24
)

// editor reads lines from a terminal, which is in raw mode only while it does.
type editor struct {
	in       *os.File
	out      io.Writer
	runner   *interp.Runner
	terminal *term.Terminal
	keys     *keys
	original *term.State // before the shell
	cooked   *term.State // while commands run
	// asks says that the size has to be asked for: a serial line has none, and
	// nothing says when it changes.
	asks bool
}

func newEditor(in *os.File, out io.Writer, r *interp.Runner) (*editor, error) {
	e := &editor{in: in, out: out, runner: r}
	var err error
	if e.original, err = term.GetState(int(in.Fd())); err != nil {
		return nil, err
	}
	if err := disableSuspend(int(in.Fd())); err != nil {
		return nil, err
	}
	if e.cooked, err = term.GetState(int(in.Fd())); err != nil {
		return nil, err
	}
	e.reset()
	if columns, rows, err := term.GetSize(int(in.Fd())); err == nil && columns == 0 && rows == 0 {
		e.asks = true
	}
	return e, nil
}

// reset makes a new terminal, with the history of the one before.
func (e *editor) reset() {
	old := e.terminal
	var typed []byte
	if e.keys != nil && !e.keys.interrupted {
		typed = e.keys.typed
	}
	e.keys = &keys{r: e.in, typed: typed}
	e.terminal = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{e.keys, e.out}, "")
	e.terminal.AutoCompleteCallback = e.complete
	if old != nil {
		e.terminal.History = old.History
	}
}

// readLine reads a line; more says that it continues a command. The error is
// errInterrupted, or io.EOF at the end of input.
func (e *editor) readLine(more bool) (string, error) {
	fd := int(e.in.Fd())
	// A program may have left the terminal in any state.
	if err := term.Restore(fd, e.cooked); err != nil {
		return "", err
	}
	if _, err := term.MakeRaw(fd); err != nil {
		return "", err
	}
	defer func() { _ = term.Restore(fd, e.cooked) }()
	if e.asks {
		e.asks = e.askSize()
	}
	_ = e.terminal.SetSize(e.size())
	e.terminal.SetPrompt(e.prompt(more))
	e.keys.interrupted = false
	line, err := e.terminal.ReadLine()
	switch {
	case err == nil || errors.Is(err, term.ErrPasteIndicator):
		return line, nil
	case e.keys.interrupted:
		_, _ = io.WriteString(e.out, "^C\r\n")
		e.reset()
		return "", errInterrupted
	}
	_, _ = io.WriteString(e.out, "\r\n")
	return "", err
}

// size is that of the terminal, or the usual one.
func (e *editor) size() (columns, rows int) {
	columns, rows, err := term.GetSize(int(e.in.Fd()))
	if err != nil || columns <= 0 || rows <= 0 {
		return defaultColumns, defaultRows
	}
	return columns, rows
}

// prompt is $PS1 as it stands, or the working directory and "$ ".
func (e *editor) prompt(more bool) string {
	if more {
		return "> "
	}
	if ps1, ok := e.runner.Vars["PS1"]; ok && ps1.IsSet() {
		return ps1.String()
	}
	if ps1, ok := os.LookupEnv("PS1"); ok {
		return ps1
	}
	return e.runner.Dir + " $ "
}

// restore leaves the terminal as it was found.
func (e *editor) restore() { _ = term.Restore(int(e.in.Fd()), e.original) }

// keys notes the interrupt key, which the editor takes for the end of input.
type keys struct {
	r           io.Reader
	typed       []byte // what was read before its time
	interrupted bool
}

func (k *keys) Read(p []byte) (n int, err error) {
	if len(k.typed) > 0 {
		n = copy(p, k.typed)
		k.typed = k.typed[n:]
	} else {
		n, err = k.r.Read(p)
	}
	if bytes.IndexByte(p[:n], 3) >= 0 {
		k.interrupted = true
	}
	return n, err
}
