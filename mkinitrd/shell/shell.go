package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// killAfter is how long a command that was interrupted may take to end.
const killAfter = 2 * time.Second

// signalDelay is how much later than a command the shell itself may learn of
// the interrupt key.
const signalDelay = 200 * time.Millisecond

// shell runs what it reads.
type shell struct {
	runner *interp.Runner
	parser *syntax.Parser
	stderr io.Writer
	editor *editor // nil where nobody types
}

// run is the program; it returns the exit status.
func run(args []string, stdin *os.File, stdout, stderr io.Writer) int {
	o, err := parseOptions(args)
	if err != nil {
		fmt.Fprintf(stderr, "sh: %v\n", err)
		return 2
	}
	isTerminal := term.IsTerminal(int(stdin.Fd()))
	interactive := o.command == nil && o.file == "" && isTerminal
	s := &shell{parser: syntax.NewParser(), stderr: stderr}
	runner, err := interp.New(
		interp.StdIO(stdin, stdout, stderr),
		interp.Interactive(interactive || o.interactive),
		interp.Params(append(append(o.set, "--"), o.args...)...),
		interp.CallHandler(call),
		interp.ExecHandlers(s.execBuiltins, func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return interp.DefaultExecHandler(killAfter) }),
	)
	if err != nil {
		fmt.Fprintf(stderr, "sh: %v\n", err)
		return 2
	}
	s.runner = runner
	switch {
	case o.command != nil:
		return s.script(strings.NewReader(*o.command), o.name)
	case o.file != "":
		f, err := os.Open(o.file)
		if err != nil {
			fmt.Fprintf(stderr, "sh: %v\n", err)
			return 127
		}
		defer f.Close()
		return s.script(f, o.name)
	case interactive:
		e, err := newEditor(stdin, stdout, runner)
		if err != nil {
			fmt.Fprintf(stderr, "sh: %v\n", err)
			return 1
		}
		defer e.restore()
		s.editor = e
		return s.interact(e)
	}
	return s.stream(stdin)
}

// script runs a whole file.
func (s *shell) script(r io.Reader, name string) int {
	f, err := s.parser.Parse(r, name)
	if err != nil {
		fmt.Fprintf(s.stderr, "sh: %v\n", err)
		return 2
	}
	return s.status(s.runner.Run(context.Background(), f))
}

// stream runs statements as they come.
func (s *shell) stream(r io.Reader) int {
	status := 0
	for stmt, err := range s.parser.StmtsSeq(r) {
		if err != nil {
			fmt.Fprintf(s.stderr, "sh: %v\n", err)
			return 2
		}
		status = s.status(s.runner.Run(context.Background(), stmt))
		if s.runner.Exited() {
			break
		}
	}
	return status
}

// interact reads lines from a person until exit or the end of input.
func (s *shell) interact(e *editor) int {
	// What the keys for interrupt and quit send reaches the commands; the
	// shell itself survives. Caught signals, unlike ignored ones, are not
	// inherited.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGQUIT, syscall.SIGTERM)
	defer signal.Stop(interrupts)
	status := 0
	text := ""
	for {
		line, err := e.readLine(text != "")
		switch {
		case errors.Is(err, errInterrupted):
			text, status = "", s.setStatus(interruptedStatus)
			continue
		case err != nil:
			if text != "" {
				fmt.Fprintln(s.stderr, "sh: end of input inside a command")
			}
			return status
		}
		text += line + "\n"
		f, err := s.parser.Parse(strings.NewReader(text), "")
		if syntax.IsIncomplete(err) {
			continue
		}
		text = ""
		if err != nil {
			fmt.Fprintf(s.stderr, "sh: %v\n", err)
			status = s.setStatus(2)
			continue
		}
		select {
		case <-interrupts: // one that came when nothing was left to take it
		default:
		}
		for _, stmt := range f.Stmts {
			var interrupted bool
			status, interrupted = s.command(stmt, interrupts)
			if s.runner.Exited() && !interrupted {
				return status
			}
			if interrupted {
				break
			}
		}
	}
}

// command runs one statement, which a signal ends.
func (s *shell) command(stmt *syntax.Stmt, interrupts <-chan os.Signal) (status int, interrupted bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	ended := make(chan bool)
	go func() {
		select {
		case <-interrupts:
			cancel()
			ended <- true
		case <-done:
			ended <- false
		}
	}()
	err := s.runner.Run(ctx, stmt)
	close(done)
	interrupted = <-ended
	if status = s.status(err); status == interruptedStatus && !interrupted {
		// The signal that ended the command is on its way to the shell too,
		// and must not end the next one.
		select {
		case <-interrupts:
			interrupted = true
		case <-time.After(signalDelay):
		}
	}
	if interrupted {
		status = s.setStatus(interruptedStatus)
	}
	return status, interrupted
}

// interruptedStatus is that of a command which the interrupt key ended.
const interruptedStatus = 128 + int(syscall.SIGINT)

// setStatus makes status what $? says, as of a command that was not run.
func (s *shell) setStatus(status int) int {
	f, err := s.parser.Parse(strings.NewReader(fmt.Sprintf("(exit %d)", status)), "")
	if err == nil {
		_ = s.runner.Run(context.Background(), f.Stmts[0])
	}
	return status
}

// status is the exit status that an error of the interpreter stands for.
func (s *shell) status(err error) int {
	var exit interp.ExitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case errors.Is(err, context.Canceled):
		return interruptedStatus
	}
	fmt.Fprintf(s.stderr, "sh: %v\n", err)
	return 1
}
