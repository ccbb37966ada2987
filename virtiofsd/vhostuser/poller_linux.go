package vhostuser

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// poller waits for a kick or a stop. It never reads the kick's eventfd: with
// edge-triggered epoll each write to it wakes us, at one system call a wake-up,
// and a front end that reads it itself cannot leave us in a blocking read.
type poller struct {
	epoll  int
	events [2]unix.EpollEvent
}

const (
	eventKick = 1
	eventStop = 2
)

func newPoller(kick, stop int) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	p := &poller{epoll: fd}
	err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, kick, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: eventKick})
	if err == nil {
		err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, stop, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: eventStop})
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("poll the kick descriptor: %w", err)
	}
	return p, nil
}

func (p *poller) close() { _ = unix.Close(p.epoll) }

// wait sleeps until there is a kick (false) or a stop (true).
func (p *poller) wait() (stop bool, err error) { return p.poll(-1) }

// stopped says whether there is a stop, without sleeping.
func (p *poller) stopped() (bool, error) { return p.poll(0) }

func (p *poller) poll(millis int) (stop bool, err error) {
	for {
		n, err := unix.EpollWait(p.epoll, p.events[:], millis)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("poll: %w", err)
		}
		for _, e := range p.events[:n] {
			if e.Fd == eventStop {
				return true, nil
			}
		}
		return false, nil
	}
}
