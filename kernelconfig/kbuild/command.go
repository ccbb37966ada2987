package kbuild

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// command is a program that a build runs.
type command struct {
	step string
	name string
	args []string
	// line is called with each line of its output; may be nil.
	line func(string)
}

// maxTail is how many lines of a failed program's output are looked at for its
// error.
const maxTail = 40

// errorLines are the lines that say why a compiler failed, or the last one.
func errorLines(lines []string) []string {
	var found []string
	for _, l := range lines {
		if strings.Contains(l, "error:") || strings.Contains(l, "***") || strings.Contains(l, "not found") {
			found = append(found, strings.TrimSpace(l))
		}
	}
	if found == nil && len(lines) > 0 {
		found = lines[len(lines)-1:]
	}
	return found
}

// runner runs the programs of a build, with its log.
type runner struct {
	env []string
	log io.Writer
}

// run runs c to its end. It is killed with its children when ctx ends.
func (r *runner) run(ctx context.Context, c *command) error {
	cmd := exec.CommandContext(ctx, c.name, c.args...)
	cmd.Env = r.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	cmd.Stdout, cmd.Stderr = write, write
	fmt.Fprintf(r.log, "+ %s %s\n", c.name, strings.Join(c.args, " "))
	if err := cmd.Start(); err != nil {
		write.Close()
		return fmt.Errorf("%s: %w", c.step, err)
	}
	write.Close()
	var tail []string
	s := bufio.NewScanner(read)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := s.Text()
		_, _ = io.WriteString(r.log, line+"\n") // the log is a help, not a result
		if tail = append(tail, line); len(tail) > maxTail {
			tail = tail[1:]
		}
		if c.line != nil {
			c.line(line)
		}
	}
	_, _ = io.Copy(io.Discard, read) // after a line too long for the scanner
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			return fmt.Errorf("%s: %w", c.step, err)
		}
		return fmt.Errorf("%s: %s ended with status %d: %s", c.step, c.name, exit.ExitCode(), strings.Join(errorLines(tail), "; "))
	}
	return nil
}
