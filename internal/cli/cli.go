package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	ExitOK      = 0
	ExitFailure = 1
	ExitUsage   = 2
)

// UsageError says that the command line itself is wrong: [Main] exits with
// [ExitUsage] and names the help.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef makes a [UsageError].
func Usagef(format string, args ...any) error {
	return &UsageError{Err: fmt.Errorf(format, args...)}
}

// StatusError ends a command with the given exit status. Err, when not nil, is
// printed; a nil Err prints nothing, for a status that another program
// returned after it has said what there was to say.
type StatusError struct {
	Status int
	Err    error
}

func (e *StatusError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Status)
	}
	return e.Err.Error()
}
func (e *StatusError) Unwrap() error { return e.Err }

// Streams are a command's standard streams; tests pass their own.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// Main runs root for a program's main function with the process's own
// arguments, streams and signals, and returns the exit code. SIGINT, SIGTERM
// and SIGHUP cancel the command's context; a second one of them kills the
// process in the usual way.
func Main(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	go func() { <-ctx.Done(); stop() }()
	return Run(ctx, root, os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}

// Run executes root with args and returns the exit code. An error is printed
// to s.Err as one line that begins with the program's name.
func Run(ctx context.Context, root *cobra.Command, args []string, s Streams) int {
	prepare(root)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	code := ExitFailure
	var status *StatusError
	var usage *UsageError
	switch {
	case errors.As(err, &status):
		code = status.Status
		if status.Err == nil {
			return code
		}
	case errors.As(err, &usage):
		code = ExitUsage
	}
	fmt.Fprintf(s.Err, "%s: %s\n", root.Name(), oneLine(err.Error()))
	if code == ExitUsage {
		fmt.Fprintf(s.Err, "%s: see '%s --help'\n", root.Name(), cmd.CommandPath())
	}
	return code
}

// prepare gives every command below root the house rules: errors are printed
// by Run alone, flag errors are usage errors, a bare group prints its help,
// and an unknown subcommand is an error.
func prepare(root *cobra.Command) {
	root.SilenceErrors = true
	root.SilenceUsage = true
	if root.Version == "" {
		root.Version = Version()
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &UsageError{Err: err} })
	walk(root, func(c *cobra.Command) {
		if args := c.Args; args != nil {
			c.Args = func(c *cobra.Command, a []string) error {
				if err := args(c, a); err != nil {
					return &UsageError{Err: err}
				}
				return nil
			}
		} else if c.HasSubCommands() {
			c.Args = func(c *cobra.Command, a []string) error {
				if len(a) == 0 {
					return nil
				}
				msg := fmt.Sprintf("unknown command %q", a[0])
				c.SuggestionsMinimumDistance = 2
				if s := c.SuggestionsFor(a[0]); len(s) > 0 {
					msg += "; did you mean " + strings.Join(s, " or ") + "?"
				}
				return &UsageError{Err: errors.New(msg)}
			}
		}
		if c.Run == nil && c.RunE == nil {
			c.RunE = func(c *cobra.Command, _ []string) error {
				_ = c.Help()
				return Usagef("a subcommand is needed")
			}
		}
	})
}

func walk(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		walk(sub, f)
	}
}

// oneLine joins an error of several lines, as errors.Join makes them, with
// semicolons.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
