package boot

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxUevents is how many messages one call takes: what devices do for ever
	// must not keep init from its limits.
	maxUevents = 256
	// ueventMemory is what the kernel may keep for us, in bytes; what is beyond
	// is lost, and found by looking.
	ueventMemory = 128 << 10
	// blindPause is the pause between two looks where the kernel tells nothing.
	blindPause = 5 * time.Millisecond
)

// WaitDevice listens to the kernel's uevents (netlink(7)).
func (m *machine) WaitDevice(limit time.Duration) (aliases []string, lost bool) {
	switch {
	case m.uevents == nil:
		fd := listenUevents()
		m.uevents = &fd
		return nil, true
	case *m.uevents < 0:
		time.Sleep(min(limit, blindPause))
		return nil, true
	}
	fd := *m.uevents
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(limit.Milliseconds()))
	buf := make([]byte, maxUevent)
	for range maxUevents {
		n, from, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.ENOBUFS:
			lost = true
			continue
		default: // EAGAIN
			return aliases, lost
		}
		// Only the kernel has the number 0.
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue
		}
		if e, ok := parseUevent(buf[:n]); ok && e.alias != "" && e.action != "remove" {
			aliases = append(aliases, e.alias)
		}
	}
	return aliases, lost
}

// listenUevents returns -1 where the kernel has no such thing.
func listenUevents() int {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return -1
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, ueventMemory)
	const kernelGroup = 1 // udev's own messages have another
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		_ = unix.Close(fd)
		return -1
	}
	return fd
}
