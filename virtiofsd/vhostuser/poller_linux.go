package vhostuser

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// poller waits for a kick or for our own eventfd. It never reads either: with
// edge-triggered epoll each write wakes us, at one system call a wake-up, and a
// front end that reads its kick itself cannot leave us in a blocking read.
type poller struct {
	epoll  int
	events [2]unix.EpollEvent
}

func newPoller(kick, wake int) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	p := &poller{epoll: fd}
	for _, fd := range []int{kick, wake} {
		if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET}); err != nil {
			p.close()
			return nil, fmt.Errorf("poll the kick descriptor: %w", err)
		}
	}
	return p, nil
}

func (p *poller) close() { _ = unix.Close(p.epoll) }

// wait sleeps until there is a kick, or what we were woken for.
func (p *poller) wait() error {
	for {
		_, err := unix.EpollWait(p.epoll, p.events[:], -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("poll: %w", err)
		}
		return nil
	}
}
