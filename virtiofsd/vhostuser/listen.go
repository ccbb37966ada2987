package vhostuser

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// MaxSocketPath is the longest path of a unix socket in bytes (unix(7):
// sun_path has 108, the last is NUL).
const MaxSocketPath = 107

// Listen makes a listening socket at path that only the own user may connect
// to. A socket there to which nobody listens any more is replaced; anything else
// there is an error. The socket is removed when the listener is closed.
func Listen(path string) (*net.UnixListener, error) {
	if len(path) > MaxSocketPath {
		return nil, fmt.Errorf("socket path %q has %d bytes, at most %d are possible: choose a shorter one", path, len(path), MaxSocketPath)
	}
	addr := &net.UnixAddr{Name: path, Net: "unix"}
	if err := removeStale(addr); err != nil {
		return nil, err
	}
	// The mode of a socket is that of its creation; there is no later moment
	// that would not leave a gap.
	old := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", addr)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, rootCause(err))
	}
	return l, nil
}

// ListenFD takes over fd, a listening unix socket.
func ListenFD(fd int) (*net.UnixListener, error) {
	f := os.NewFile(uintptr(fd), "listening socket")
	if f == nil {
		return nil, fmt.Errorf("descriptor %d is not open", fd)
	}
	defer f.Close() // the listener has its own copy
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is no listening socket: %w", fd, rootCause(err))
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		_ = l.Close()
		return nil, fmt.Errorf("descriptor %d is no unix socket", fd)
	}
	return u, nil
}

func removeStale(addr *net.UnixAddr) error {
	st, err := os.Lstat(addr.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("listen on %s: %w", addr.Name, rootCause(err))
	case st.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("listen on %s: the file is there and is no socket: choose another path or remove it", addr.Name)
	}
	c, err := net.DialTimeout("unix", addr.Name, time.Second)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("listen on %s: another process listens there: end it or choose another path", addr.Name)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("listen on %s: socket in use: %w", addr.Name, rootCause(err))
	}
	if err := os.Remove(addr.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove stale socket: %w", err)
	}
	return nil
}

// rootCause is the system's error within those of packages net and os, which
// repeat the path.
func rootCause(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
