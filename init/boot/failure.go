package boot

import (
	"errors"
	"fmt"
	"strings"

	"storeboot/internal/bootproto"
)

// debug logs what only a search for errors needs.
func (b *boot) debug(text string) {
	if b.params.Debug {
		b.log.info(text)
	}
}

// loud makes the kernel print all that is logged.
func (b *boot) loud() {
	if err := b.sys.WriteFile(printkLevels, "8"); err != nil {
		b.log.warning("raise the console level: " + err.Error())
	}
}

// stopped is an error once the machine is to be powered off.
func (b *boot) stopped() error {
	if why := b.sys.Stopped(); why != "" {
		return &failure{statusStopped, errors.New("stopped by " + why)}
	}
	return nil
}

// statusStopped is the status of a boot that was told to end, as a program's
// that SIGTERM ended.
const statusStopped = 128 + 15

// stepName is a step's name as the command line has it: one word.
func stepName(name string) string { return strings.ReplaceAll(name, " ", "-") }

// checkBreakpoints refuses one that would never be reached.
func (b *boot) checkBreakpoints() error {
	var names []string
	for _, s := range Plan(b.mode)[2:] { // before those, the command line was not read
		names = append(names, stepName(s.Name))
	}
	for _, name := range b.params.Breakpoints {
		if !contains(names, stepName(name)) {
			return fmt.Errorf("breakpoint %s: no such step of this boot (there are: %s)", name, strings.Join(names, ", "))
		}
	}
	if len(b.params.Breakpoints) > 0 && len(b.spec.Shell) == 0 {
		return fmt.Errorf("breakpoint %s: %w", b.params.Breakpoints[0], errNoShell)
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if stepName(x) == s {
			return true
		}
	}
	return false
}

var errNoShell = errors.New("this initrd has no shell: build one with mkinitrd build --template shell")

// pause gives a person a shell before the step, if the command line asks for it.
func (b *boot) pause(step string) error {
	if !contains(b.params.Breakpoints, stepName(step)) {
		return nil
	}
	if err := b.visit("breakpoint before the step " + step + ": the boot goes on when this shell exits"); err != nil {
		return fmt.Errorf("breakpoint: %w", err)
	}
	return b.stopped()
}

// afterFailure says what happened, and gives a person a shell if there is one to
// see it.
func (b *boot) afterFailure(r bootproto.Report) {
	b.log.error(r.Step + ": " + r.Message)
	if b.sys.Stopped() != "" {
		return
	}
	person := b.mode == bootproto.ModeShell || b.run != nil && b.run.Terminal
	switch {
	case b.params.OnFail == bootproto.OnFailShell && len(b.spec.Shell) == 0:
		b.log.error("no shell after the failure: " + errNoShell.Error())
		return
	case b.params.OnFail != bootproto.OnFailShell && (b.params.OnFail != bootproto.OnFailDefault || !person || len(b.spec.Shell) == 0):
		if !b.params.Debug {
			b.log.info("to see more, boot with tvix.debug, or with tvix.breakpoint=" + stepName(r.Step) + " and an initrd that has a shell")
		}
		return
	}
	// A panic in here must not hide the failure.
	defer func() { _ = recover() }()
	if err := b.visit("the boot failed in the step " + r.Step + ": " + r.Message + "; the machine ends when this shell exits"); err != nil {
		b.log.error("no shell after the failure: " + err.Error())
	}
}

// visit runs the image's shell for a person, on the terminal of the boot, to
// its end.
func (b *boot) visit(why string) error {
	console, err := b.personsConsole()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(console, "\r\n%s: %s\r\n", bootproto.Prefixes()[0]+"init", printable(why, maxReason)); err != nil {
		return err
	}
	pid, err := b.sys.Start(&Program{Argv: b.spec.Shell, Env: b.environment(), Dir: "/", Terminal: console})
	if err != nil {
		return fmt.Errorf("start %s: %w", b.spec.Shell[0], err)
	}
	if _, err := b.waitFor1(pid); err != nil {
		return fmt.Errorf("wait for %s: %w", b.spec.Shell[0], err)
	}
	return console.Restore()
}

// personsConsole opens the terminal of the boot in line mode.
func (b *boot) personsConsole() (t Terminal, err error) {
	if b.console != nil {
		t = b.console
	} else if b.params.Console != "" {
		t, err = b.openNamedConsole("/dev/" + b.params.Console)
	}
	if t == nil {
		t, err = b.openKernelConsole()
	}
	if err != nil {
		return nil, err
	}
	rows, columns := 0, 0
	if b.run != nil {
		rows, columns = b.run.Rows, b.run.Columns
	}
	if err := t.Cooked(rows, columns); err != nil {
		return nil, fmt.Errorf("set the console to line mode: %w", err)
	}
	if err := t.TakeControl(); err != nil {
		b.log.warning("no job control: make the console the controlling terminal: " + err.Error())
	}
	return t, nil
}
