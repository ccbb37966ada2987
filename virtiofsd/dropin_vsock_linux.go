package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// vsockBacklog is how many connections may wait to be accepted.
const vsockBacklog = 128

// vsockListener takes connections of VMs over virtio sockets (vsock(7)), which
// package net does not know.
type vsockListener struct {
	file *os.File
	addr vsockAddr
}

// listenVsock listens on CID:PORT: the own context ID, or 4294967295 (-1) for
// any; 1 is the machine itself, as far as the kernel has vsock_loopback.
func listenVsock(address string) (*vsockListener, error) {
	a, err := parseVsock(address)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("the kernel has no vsock ('modprobe vhost_vsock' on a host): %w", err)
	}
	file := os.NewFile(uintptr(fd), address)
	if err = unix.Bind(fd, &unix.SockaddrVM{CID: a.cid, Port: a.port}); errors.Is(err, unix.EADDRNOTAVAIL) {
		err = fmt.Errorf("%d is not a context ID of this machine: use 4294967295 for any, or 2 on a host", a.cid)
	}
	if err == nil {
		err = unix.Listen(fd, vsockBacklog)
	}
	if err == nil {
		a, err = vsockName(unix.Getsockname(fd))
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &vsockListener{file: file, addr: a}, nil
}

// parseVsock parses CID:PORT. -1 stands for any.
func parseVsock(address string) (a vsockAddr, err error) {
	cid, port, ok := strings.Cut(address, ":")
	numbers := [2]uint32{}
	for i, s := range []string{cid, port} {
		if s == "-1" {
			numbers[i] = unix.VMADDR_CID_ANY
			continue
		}
		n, err := strconv.ParseUint(s, 10, 32)
		if !ok || err != nil {
			return a, errors.New("want vsock:CID:PORT with numbers")
		}
		numbers[i] = uint32(n)
	}
	return vsockAddr{numbers[0], numbers[1]}, nil
}

func (l *vsockListener) Accept() (net.Conn, error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return nil, net.ErrClosed
	}
	var fd int
	var peer unix.Sockaddr
	var acceptErr error
	err = raw.Read(func(listening uintptr) bool {
		for {
			fd, peer, acceptErr = unix.Accept4(int(listening), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if !errors.Is(acceptErr, unix.EINTR) && !errors.Is(acceptErr, unix.ECONNABORTED) {
				return !errors.Is(acceptErr, unix.EAGAIN)
			}
		}
	})
	switch {
	case err != nil: // no deadline is ever set, so it is closed
		return nil, net.ErrClosed
	case acceptErr != nil:
		return nil, os.NewSyscallError("accept", acceptErr)
	}
	remote, err := vsockName(peer, nil)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &vsockConn{File: os.NewFile(uintptr(fd), remote.String()), local: l.addr, remote: remote}, nil
}

func (l *vsockListener) Close() error   { return l.file.Close() }
func (l *vsockListener) Addr() net.Addr { return l.addr }

// vsockConn is a connection. A non-blocking descriptor as an os.File has all
// that a net.Conn needs but the addresses.
type vsockConn struct {
	*os.File
	local, remote vsockAddr
}

func (c *vsockConn) LocalAddr() net.Addr  { return c.local }
func (c *vsockConn) RemoteAddr() net.Addr { return c.remote }

// vsockAddr is a context ID and a port.
type vsockAddr struct{ cid, port uint32 }

func (vsockAddr) Network() string  { return "vsock" }
func (a vsockAddr) String() string { return fmt.Sprintf("vsock:%d:%d", a.cid, a.port) }

// vsockName is what the kernel says of an end of a socket.
func vsockName(s unix.Sockaddr, err error) (vsockAddr, error) {
	if err != nil {
		return vsockAddr{}, os.NewSyscallError("getsockname", err)
	}
	vm, ok := s.(*unix.SockaddrVM)
	if !ok {
		return vsockAddr{}, fmt.Errorf("address of an unknown kind: %T", s)
	}
	return vsockAddr{vm.CID, vm.Port}, nil
}
