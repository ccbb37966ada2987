package boot

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// device is the real Terminal.
type device struct {
	fd    int
	found *unix.Termios // settings as found; nil: not a terminal
	// controls is set when it becomes the controlling terminal of our session.
	controls *atomic.Bool
}

func (m *machine) OpenTerminal(path string) (Terminal, error) {
	fd, err := open(path, unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	d := &device{fd: fd, controls: &m.stop.terminal}
	if settings, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
		d.found = settings
	}
	return d, nil
}

// Write writes all of p. A program may have left the device, which it shares
// with us, in non-blocking mode.
func (d *device) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Write(d.fd, p[done:])
		switch err {
		case nil:
			done += n
		case unix.EINTR:
		case unix.EAGAIN:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLOUT}}, -1)
		default:
			return done, err
		}
	}
	return done, nil
}

func (d *device) Raw() error {
	if d.found == nil {
		return nil
	}
	t := *d.found
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON | unix.IXOFF
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB
	t.Cflag |= unix.CS8 | unix.CREAD | unix.CLOCAL
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return d.set(unix.TCSETSW, &t)
}

func (d *device) Cooked(rows, columns int) error {
	if d.found == nil {
		return nil
	}
	t := *d.found
	t.Iflag &^= unix.INLCR | unix.IGNCR | unix.ISTRIP
	t.Iflag |= unix.ICRNL | unix.IXON | unix.IUTF8 | unix.BRKINT
	t.Oflag |= unix.OPOST | unix.ONLCR
	t.Lflag |= unix.ISIG | unix.ICANON | unix.IEXTEN | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOCTL | unix.ECHOKE
	t.Cflag |= unix.CREAD | unix.CLOCAL
	if err := d.set(unix.TCSETSW, &t); err != nil {
		return err
	}
	if rows == 0 && columns == 0 {
		return nil
	}
	return d.Resize(rows, columns)
}

func (d *device) Resize(rows, columns int) error {
	if d.found == nil {
		return nil
	}
	return retryErr(func() error {
		return unix.IoctlSetWinsize(d.fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(columns)})
	})
}

// TakeControl makes PID 1 the leader of the terminal's session. The program
// runs in that session: were it the leader itself, its exit would hang the
// terminal up.
func (d *device) TakeControl() error {
	if d.found == nil {
		return nil
	}
	if _, err := unix.Setsid(); err != nil && err != unix.EPERM { // EPERM: it is one already
		return err
	}
	err := retryErr(func() error { return unix.IoctlSetInt(d.fd, unix.TIOCSCTTY, 0) })
	if err == nil {
		d.controls.Store(true)
	}
	return err
}

func (d *device) Drain() error {
	if d.found == nil {
		return nil
	}
	// tcdrain(3): TCSBRK with an argument that is not 0 sends no break.
	return retryErr(func() error { return unix.IoctlSetInt(d.fd, unix.TCSBRK, 1) })
}

func (d *device) Restore() error {
	if d.found == nil {
		return nil
	}
	return d.set(unix.TCSETSW, d.found)
}

// set changes the settings once all that was written has left.
func (d *device) set(request uint, t *unix.Termios) error {
	return retryErr(func() error { return unix.IoctlSetTermios(d.fd, request, t) })
}
