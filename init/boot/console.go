package boot

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"storeboot/internal/bootproto"
)

// errorsOnly is the kernel's console level at which it prints errors and worse.
const errorsOnly = 4

// openConsole opens the device that the program reads and writes, and sets it:
// for a person, line mode with echo, as the controlling terminal; otherwise
// bytes pass unchanged, without a controlling terminal: when the leader of a
// session with one exits, the kernel hangs the terminal up and drops what is
// still on its way.
func (b *boot) openConsole() error {
	var err error
	if b.params.Console != "" {
		b.console, err = b.openNamedConsole("/dev/" + b.params.Console)
	} else {
		b.console, err = b.openKernelConsole()
	}
	if err != nil {
		return err
	}
	if b.interactive() {
		rows, columns := 0, 0
		if b.run != nil {
			rows, columns = b.run.Rows, b.run.Columns
		}
		if err := b.console.Cooked(rows, columns); err != nil {
			return fmt.Errorf("set the console to line mode: %w", err)
		}
		if err := b.console.TakeControl(); err != nil {
			b.log.warning("no job control: make the console the controlling terminal: " + err.Error())
		}
		return nil
	}
	if b.params.Console == "" && (b.run == nil || b.run.Stdout == bootproto.OutputPort && b.run.Stderr == bootproto.OutputPort) {
		return nil
	}
	if err := b.console.Raw(); err != nil {
		return fmt.Errorf("set the console to raw mode: %w", err)
	}
	return nil
}

// interactive says whether a person sits at the console. Without a run
// specification, the kernel's console is a person's and another device is a
// program's.
func (b *boot) interactive() bool {
	switch {
	case b.mode == bootproto.ModeShell:
		return true
	case b.mode == bootproto.ModeFind:
		return false
	case b.run != nil:
		return b.run.Terminal
	}
	return b.params.Console == ""
}

// openNamedConsole waits for the device, which appears some time after its
// module was loaded.
func (b *boot) openNamedConsole(path string) (Terminal, error) {
	var t Terminal
	err := b.waitFor(deviceWait, func() (bool, error) {
		var err error
		t, err = b.sys.OpenTerminal(path)
		again := isMissing(err) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ENXIO) || errors.Is(err, syscall.EIO)
		return again, err
	})
	if err != nil {
		hint := ""
		if strings.HasPrefix(path, "/dev/hvc") || strings.HasPrefix(path, "/dev/vport") {
			hint = ": the VMM does not offer it, or the initrd lacks the module virtio_console"
		}
		return nil, fmt.Errorf("open the console %s: %w%s", path, err, hint)
	}
	return t, nil
}

// openKernelConsole opens the device behind /dev/console, since /dev/console
// itself is nobody's controlling terminal, and keeps the kernel from writing
// anything but errors between the program's lines.
func (b *boot) openKernelConsole() (Terminal, error) {
	b.quiet()
	if active, err := b.sys.ReadFile("/sys/class/tty/console/active"); err == nil {
		// The last one is the one that /dev/console stands for.
		if f := strings.Fields(string(active)); len(f) > 0 {
			if t, err := b.sys.OpenTerminal("/dev/" + f[len(f)-1]); err == nil {
				return t, nil
			}
		}
	}
	t, err := b.sys.OpenTerminal(kernelConsole)
	if err != nil {
		return nil, fmt.Errorf("open the console %s: %w", kernelConsole, err)
	}
	return t, nil
}

// printkLevels are the kernel's console log levels (proc(5)); a write of one
// number sets the first.
const printkLevels = "/proc/sys/kernel/printk"

// quiet lowers the console level to errors, if it is higher.
func (b *boot) quiet() {
	if b.params.Debug {
		return
	}
	data, err := b.sys.ReadFile(printkLevels)
	if err != nil {
		return // a kernel without printk has nothing to lower
	}
	level := 0
	if f := strings.Fields(string(data)); len(f) > 0 {
		level, _ = strconv.Atoi(f[0])
	}
	if level <= errorsOnly {
		return
	}
	if err := b.sys.WriteFile(printkLevels, strconv.Itoa(errorsOnly)); err != nil {
		b.log.warning("lower the console level: " + err.Error())
	}
}
