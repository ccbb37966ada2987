package boot

import (
	"encoding/binary"
	"os"
	"os/signal"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// stopGrace is how long programs get to end by themselves when the machine is
// to be powered off, before they are killed; and then we, before the machine is
// powered off without a word.
const stopGrace = 3 * time.Second

// stopper remembers that the machine is to be powered off.
type stopper struct {
	reason atomic.Pointer[string]
	// terminal says that our session has a controlling terminal, so that SIGINT
	// may be a key that was typed there.
	terminal atomic.Bool
}

func (m *machine) Stopped() string {
	if p := m.stop.reason.Load(); p != nil {
		return *p
	}
	return ""
}

// watchSignals takes over all signals: PID 1 has no default action for them,
// but the Go runtime gives it one, to exit, which the kernel answers with a
// panic. Programs that are started begin with the kernel's defaults.
//
// Those that mean an end: SIGTERM, SIGPWR; SIGUSR2, which is busybox' poweroff;
// and SIGINT, which is the kernel's for Ctrl-Alt-Del, unless a terminal may send
// it too.
func (m *machine) watchSignals() {
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF)
	all := make(chan os.Signal, 16)
	signal.Notify(all)
	go func() {
		for s := range all {
			switch s {
			case unix.SIGTERM, unix.SIGPWR, unix.SIGUSR2:
				m.stopFor("a signal (" + s.String() + ")")
			case unix.SIGINT:
				if !m.stop.terminal.Load() {
					m.stopFor("Ctrl-Alt-Del")
				}
			}
		}
	}()
}

// stopFor ends the programs, which ends what waits for them; the steps look at
// Stopped. Only the first call does anything.
func (m *machine) stopFor(reason string) {
	if !m.stop.reason.CompareAndSwap(nil, &reason) {
		return
	}
	go func() {
		_ = unix.Kill(-1, unix.SIGTERM)
		_ = unix.Kill(-1, unix.SIGCONT)
		time.Sleep(stopGrace)
		_ = unix.Kill(-1, unix.SIGKILL)
		time.Sleep(stopGrace)
		m.PowerOff()
	}()
}

// WatchPowerButton waits for a press of every power button that there is by
// now. The kernel has one as an input device if it has its modules "button" and
// "evdev".
func (m *machine) WatchPowerButton() {
	for _, file := range m.Glob("/sys/class/input/event*/device/name") {
		name, err := m.ReadFile(file)
		if err != nil || !strings.Contains(string(name), "Power Button") {
			continue
		}
		device := "/dev/input/" + path.Base(path.Dir(path.Dir(file)))
		if fd, err := open(device, unix.O_RDONLY); err == nil {
			go m.readButton(rawFile(fd))
		}
	}
}

// readButton reads struct input_event (include/uapi/linux/input.h): the time,
// in two words of the machine, then type, code and value.
func (m *machine) readButton(f rawFile) {
	defer f.Close()
	const (
		size     = 24
		keyEvent = 1   // EV_KEY
		power    = 116 // KEY_POWER
	)
	buf := make([]byte, 16*size)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return
		}
		for e := buf[:n]; len(e) >= size; e = e[size:] {
			if binary.NativeEndian.Uint16(e[16:]) == keyEvent && binary.NativeEndian.Uint16(e[18:]) == power && binary.NativeEndian.Uint32(e[20:]) == 1 {
				m.stopFor("the power button")
			}
		}
	}
}
