package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/interp"
)

// builtin is a command that the interpreter lacks: what it does, for a shell, with
// its arguments, is its exit status.
type builtin func(s *shell, args []string, out, errOut io.Writer) int

// builtins are those by name. Some of the interpreter's own are known to it, but
// only to say that they are not there.
func builtins() map[string]builtin {
	return map[string]builtin{
		"kill": kill, "umask": umask, "ulimit": ulimit, "history": history, "clear": clearScreen, "resize": resize,
		"jobs": func(*shell, []string, io.Writer, io.Writer) int { return 0 }, // there are none
		"fg":   noJobs, "bg": noJobs,
	}
}

// ownName begins the names that builtins are called by on the way through the
// interpreter, which would take the plain ones for its own.
const ownName = "\x00sh "

// call gives the builtins such names, whether called plainly or by "command".
func call(_ context.Context, args []string) ([]string, error) {
	plain := args
	if len(args) > 1 && (args[0] == "command" || args[0] == "builtin") {
		plain = args[1:]
	}
	if _, ok := builtins()[plain[0]]; ok {
		return append([]string{ownName + plain[0]}, plain[1:]...), nil
	}
	return args, nil
}

// execBuiltins runs them, and passes on all else.
func (s *shell) execBuiltins(next interp.ExecHandlerFunc) interp.ExecHandlerFunc {
	return func(ctx context.Context, args []string) error {
		name, own := strings.CutPrefix(args[0], ownName)
		if !own {
			return next(ctx, args)
		}
		c := interp.HandlerCtx(ctx)
		if status := builtins()[name](s, args[1:], c.Stdout, c.Stderr); status != 0 {
			return interp.ExitStatus(status)
		}
		return nil
	}
}

func noJobs(_ *shell, _ []string, _, errOut io.Writer) int {
	fmt.Fprintln(errOut, "sh: no job control here")
	return 1
}

func clearScreen(_ *shell, _ []string, out, _ io.Writer) int {
	_, _ = io.WriteString(out, "\x1b[H\x1b[2J")
	return 0
}

func resize(s *shell, _ []string, out, errOut io.Writer) int {
	if s.editor == nil || !s.editor.askSize() {
		fmt.Fprintln(errOut, "resize: the terminal does not say how large it is")
		return 1
	}
	columns, rows := s.editor.size()
	fmt.Fprintf(out, "COLUMNS=%d LINES=%d\n", columns, rows)
	return 0
}

func history(s *shell, _ []string, out, _ io.Writer) int {
	if s.editor == nil {
		return 0
	}
	h := s.editor.terminal.History
	for i := h.Len() - 1; i >= 0; i-- { // the last one is 0
		fmt.Fprintf(out, "%5d  %s\n", h.Len()-i, h.At(i))
	}
	return 0
}

// kill is kill(1): kill [-SIGNAL | -s SIGNAL] PID..., kill -l [NUMBER].
func kill(_ *shell, args []string, out, errOut io.Writer) int {
	fail := func(format string, a ...any) int {
		fmt.Fprintf(errOut, "kill: "+format+"\n", a...)
		return 1
	}
	sig := unix.SIGTERM
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		word := args[0][1:]
		args = args[1:]
		switch {
		case word == "l" || word == "L":
			return listSignals(args, out, errOut)
		case word == "-":
		case word == "s" || word == "n":
			if len(args) == 0 {
				return fail("-%s: the signal is missing", word)
			}
			word = args[0]
			args = args[1:]
			fallthrough
		default:
			var ok bool
			if sig, ok = parseSignal(word); !ok {
				return fail("%s: no such signal (kill -l lists them)", word)
			}
		}
	}
	if len(args) == 0 {
		return fail("no process: kill [-SIGNAL] PID...")
	}
	status := 0
	for _, a := range args {
		pid, err := strconv.Atoi(a)
		switch {
		case strings.HasPrefix(a, "%"):
			status = fail("%s: no job control here", a)
		case err != nil:
			status = fail("%s: not the number of a process", a)
		default:
			if err := unix.Kill(pid, sig); err != nil {
				status = fail("%d: %v", pid, err)
			}
		}
	}
	return status
}

// parseSignal takes a number or a name, with or without SIG.
func parseSignal(s string) (syscall.Signal, bool) {
	if n, err := strconv.Atoi(s); err == nil {
		return syscall.Signal(n), n >= 0 && n <= 64
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	n := unix.SignalNum(name)
	return n, n != 0
}

func listSignals(args []string, out, errOut io.Writer) int {
	if len(args) == 0 {
		for n := syscall.Signal(1); n < 32; n++ {
			fmt.Fprintf(out, "%2d %s\n", int(n), strings.TrimPrefix(unix.SignalName(n), "SIG"))
		}
		return 0
	}
	for _, a := range args {
		n, err := strconv.Atoi(a)
		if err == nil && n > 128 {
			n -= 128 // an exit status
		}
		name := unix.SignalName(syscall.Signal(n))
		if err != nil || name == "" {
			fmt.Fprintf(errOut, "kill: %s: no such signal\n", a)
			return 1
		}
		fmt.Fprintln(out, strings.TrimPrefix(name, "SIG"))
	}
	return 0
}

// umask shows or sets the mask of new files, in octal.
func umask(_ *shell, args []string, out, errOut io.Writer) int {
	if len(args) == 0 {
		mask := unix.Umask(0)
		unix.Umask(mask)
		fmt.Fprintf(out, "%04o\n", mask)
		return 0
	}
	mask, err := strconv.ParseUint(args[0], 8, 12)
	if err != nil || mask > 0o777 || len(args) > 1 {
		fmt.Fprintf(errOut, "umask: %s: want an octal number to 0777\n", strings.Join(args, " "))
		return 1
	}
	unix.Umask(int(mask))
	return 0
}

// limit is one that ulimit knows.
type limit struct {
	letter   string
	resource int
	unit     uint64 // of its numbers
	what     string
}

var limits = []limit{
	{"c", unix.RLIMIT_CORE, 512, "core file, 512-byte blocks"}, {"d", unix.RLIMIT_DATA, 1024, "data, KiB"},
	{"f", unix.RLIMIT_FSIZE, 512, "file, 512-byte blocks"}, {"l", unix.RLIMIT_MEMLOCK, 1024, "locked memory, KiB"},
	{"n", unix.RLIMIT_NOFILE, 1, "open files"}, {"s", unix.RLIMIT_STACK, 1024, "stack, KiB"},
	{"t", unix.RLIMIT_CPU, 1, "processor time, seconds"}, {"u", unix.RLIMIT_NPROC, 1, "processes"},
	{"v", unix.RLIMIT_AS, 1024, "address space, KiB"},
}

// ulimit shows or sets limits: ulimit [-HSa] [-LETTER [LIMIT]].
func ulimit(_ *shell, args []string, out, errOut io.Writer) int {
	hard, soft, all, letter := false, false, false, "f"
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		for _, c := range args[0][1:] {
			switch c {
			case 'H':
				hard = true
			case 'S':
				soft = true
			case 'a':
				all = true
			default:
				letter = string(c)
			}
		}
		args = args[1:]
	}
	show := func(unit uint64, r unix.Rlimit) string {
		v := r.Cur
		if hard {
			v = r.Max
		}
		if v == unix.RLIM_INFINITY {
			return "unlimited"
		}
		return strconv.FormatUint(v/unit, 10)
	}
	var r unix.Rlimit
	if all {
		for _, l := range limits {
			if unix.Getrlimit(l.resource, &r) == nil {
				fmt.Fprintf(out, "-%s %-28s %s\n", l.letter, l.what, show(l.unit, r))
			}
		}
		return 0
	}
	i := slices.IndexFunc(limits, func(l limit) bool { return l.letter == letter })
	if i < 0 || len(args) > 1 {
		fmt.Fprintf(errOut, "ulimit: -%s: no such limit (ulimit -a lists them)\n", letter)
		return 1
	}
	l := limits[i]
	err := unix.Getrlimit(l.resource, &r)
	if err == nil && len(args) == 0 {
		fmt.Fprintln(out, show(l.unit, r))
		return 0
	}
	if err == nil {
		v := uint64(unix.RLIM_INFINITY)
		if args[0] != "unlimited" {
			var n uint64
			if n, err = strconv.ParseUint(args[0], 10, 54); err == nil {
				v = n * l.unit
			}
		}
		if err == nil {
			if hard || !soft {
				r.Max = v
			}
			if soft || !hard {
				r.Cur = v
			}
			// The package syscall's, so that Go hands a limit of files on.
			err = syscall.Setrlimit(l.resource, &syscall.Rlimit{Cur: r.Cur, Max: r.Max})
		}
	}
	if err != nil {
		fmt.Fprintf(errOut, "ulimit: %v\n", err)
		return 1
	}
	return 0
}
