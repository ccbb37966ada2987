package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/grpcserver"
)

// listenOptions are the flags that say where to listen and how (tokio-listener;
// spec/store.md 3.3).
type listenOptions struct {
	address string
	in      io.Reader // of the address stdio
	out     io.Writer

	unixUnlink bool
	unixChmod  string
	unixUID    int
	unixGID    int

	sdIgnoreEnvironment bool

	keepAlive   string
	reusePort   bool
	recvBuffer  int
	sendBuffer  int
	onlyV6      bool
	backlog     int
	tcpAdjusted bool // set by listen: one of the six is given
}

func (o *listenOptions) addFlags(f *pflag.FlagSet) {
	f.StringVarP(&o.address, "listen-address", "l", ":8000", "listen on this `ADDR`: IP:PORT, :PORT (loopback only), /PATH, ./PATH, @NAME, sd-listen, sd-listen:NAME, sd-listen:*, vsock:CID:PORT, or inetd, stdio or - for the connection on standard input and output")
	f.BoolVar(&o.unixUnlink, "unix-listen-unlink", false, "remove the socket that is there already (one to which nobody listens always is)")
	f.StringVar(&o.unixChmod, "unix-listen-chmod", "", "let `WHO` connect to the socket: owner (default), group or everybody")
	f.IntVar(&o.unixUID, "unix-listen-uid", -1, "give the socket to this user, a `NUMBER`")
	f.IntVar(&o.unixGID, "unix-listen-gid", -1, "give the socket to this group, a `NUMBER`")
	f.BoolVar(&o.sdIgnoreEnvironment, "sd-accept-ignore-environment", false, "with sd-listen take descriptor 3 whatever LISTEN_PID and LISTEN_FDS say")
	f.StringVar(&o.keepAlive, "tcp-keepalive", "", "probe idle TCP connections: `MS:COUNT:MS`, the time to the first probe, how many, the time between")
	f.BoolVar(&o.reusePort, "tcp-reuse-port", false, "share the TCP port with other processes (SO_REUSEPORT)")
	f.IntVar(&o.recvBuffer, "recv-buffer-size", 0, "size of the receive buffers of TCP connections in `BYTES`")
	f.IntVar(&o.sendBuffer, "send-buffer-size", 0, "size of the send buffers of TCP connections in `BYTES`")
	f.BoolVar(&o.onlyV6, "tcp-only-v6", false, "take no IPv4 connections on an IPv6 address")
	f.IntVar(&o.backlog, "tcp-listen-backlog", 0, "let this `NUMBER` of TCP connections wait to be accepted")
}

// listen makes the listening sockets.
func (o *listenOptions) listen(ctx context.Context) ([]net.Listener, error) {
	mode, ok := map[string]fs.FileMode{"": 0, "owner": 0o600, "group": 0o660, "everybody": 0o666}[o.unixChmod]
	o.tcpAdjusted = o.keepAlive != "" || o.reusePort || o.recvBuffer != 0 || o.sendBuffer != 0 || o.onlyV6 || o.backlog != 0
	unixAdjusted := o.unixUnlink || o.unixChmod != "" || o.unixUID >= 0 || o.unixGID >= 0
	isUnix := strings.HasPrefix(o.address, "/") || strings.HasPrefix(o.address, "./")
	isSystemd := strings.HasPrefix(o.address, "sd-listen")
	isStdio := o.address == "inetd" || o.address == "stdio" || o.address == "-"
	vsock, isVsock := strings.CutPrefix(o.address, "vsock:")
	switch {
	case !ok:
		return nil, cli.Usagef("--unix-listen-chmod %q: want owner, group or everybody", o.unixChmod)
	case o.recvBuffer < 0 || o.sendBuffer < 0 || o.backlog < 0:
		return nil, cli.Usagef("a size of buffers and a number of connections cannot be negative")
	case unixAdjusted && !isUnix:
		return nil, cli.Usagef("the --unix-listen flags need a socket in the file system as --listen-address, and %q is none", o.address)
	case o.sdIgnoreEnvironment && !isSystemd:
		return nil, cli.Usagef("--sd-accept-ignore-environment needs sd-listen as --listen-address, and %q is something else", o.address)
	case o.tcpAdjusted && (isUnix || isSystemd || isStdio || isVsock || strings.HasPrefix(o.address, "@")):
		return nil, cli.Usagef("the --tcp and buffer flags need IP:PORT as --listen-address, and %q is something else", o.address)
	case isUnix:
		return o.listenUnix(mode)
	case isStdio:
		l, err := newStdioListener(o.in, o.out)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", o.address, err)
		}
		return []net.Listener{l}, nil
	case isVsock:
		l, err := listenVsock(vsock)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", o.address, err)
		}
		return []net.Listener{l}, nil
	case o.sdIgnoreEnvironment:
		return listenDescriptor(3)
	case o.tcpAdjusted:
		return o.listenTCP(ctx)
	}
	return grpcserver.Listen(o.address)
}

// listenUnix makes a socket in the file system.
func (o *listenOptions) listenUnix(mode fs.FileMode) ([]net.Listener, error) {
	if o.unixUnlink {
		if info, err := os.Lstat(o.address); err == nil && info.Mode().Type() == fs.ModeSocket {
			if err := os.Remove(o.address); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("listen: %w", err)
			}
		}
	}
	listeners, err := grpcserver.Listen(o.address)
	if err != nil {
		return nil, err
	}
	if o.unixUID >= 0 || o.unixGID >= 0 {
		err = os.Lchown(o.address, o.unixUID, o.unixGID)
	}
	if err == nil && mode != 0 {
		err = os.Chmod(o.address, mode)
	}
	if err != nil {
		_ = listeners[0].Close()
		return nil, fmt.Errorf("listen: %w", err)
	}
	return listeners, nil
}

// listenDescriptor takes over a listening socket.
func listenDescriptor(fd uintptr) ([]net.Listener, error) {
	f := os.NewFile(fd, "descriptor "+strconv.Itoa(int(fd)))
	defer f.Close() // the listener has its own copy
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listen on sd-listen: descriptor %d is no listening socket: %w", fd, err)
	}
	return []net.Listener{l}, nil
}

// listenTCP makes a TCP socket with options.
func (o *listenOptions) listenTCP(ctx context.Context) ([]net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if controlErr := c.Control(func(fd uintptr) { err = o.setOptions(int(fd)) }); controlErr != nil {
			return controlErr
		}
		return err
	}}
	if o.keepAlive != "" {
		k, err := parseKeepAlive(o.keepAlive)
		if err != nil {
			return nil, cli.Usagef("--tcp-keepalive %q: %w", o.keepAlive, err)
		}
		config.KeepAliveConfig = k
	}
	host, _, err := net.SplitHostPort(o.address)
	if err != nil || net.ParseIP(host) == nil {
		return nil, cli.Usagef("--listen-address %q: with --tcp and buffer flags it has to be IP:PORT", o.address)
	}
	network := "tcp"
	if o.onlyV6 {
		network = "tcp6" // the package net sets IPV6_V6ONLY for it
	}
	l, err := config.Listen(ctx, network, o.address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if o.backlog > 0 {
		if err := setBacklog(l.(*net.TCPListener), o.backlog); err != nil {
			_ = l.Close()
			return nil, fmt.Errorf("listen on %s: %w", o.address, err)
		}
	}
	return []net.Listener{l}, nil
}

// setOptions sets what connections take over from the listening socket.
func (o *listenOptions) setOptions(fd int) error {
	for _, x := range []struct{ option, value int }{
		{unix.SO_RCVBUF, o.recvBuffer}, {unix.SO_SNDBUF, o.sendBuffer}, {unix.SO_REUSEPORT, map[bool]int{true: 1}[o.reusePort]},
	} {
		if x.value == 0 {
			continue
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, x.option, x.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// setBacklog changes how many connections may wait: a second listen(2) on the
// same socket does.
func setBacklog(l *net.TCPListener, n int) error {
	c, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var listenErr error
	if err := c.Control(func(fd uintptr) { listenErr = unix.Listen(int(fd), n) }); err != nil {
		return err
	}
	return os.NewSyscallError("listen", listenErr)
}

// parseKeepAlive parses MS:COUNT:MS, of which each may be left out.
func parseKeepAlive(s string) (net.KeepAliveConfig, error) {
	var n [3]int
	parts := strings.Split(s, ":")
	if len(parts) > len(n) {
		return net.KeepAliveConfig{}, errors.New("want MS:COUNT:MS")
	}
	for i, p := range parts {
		if p == "" {
			continue
		}
		v, err := strconv.ParseUint(p, 10, 31)
		if err != nil || v == 0 {
			return net.KeepAliveConfig{}, fmt.Errorf("want MS:COUNT:MS, and %q is not a number above 0", p)
		}
		n[i] = int(v)
	}
	return net.KeepAliveConfig{
		Enable:   true,
		Idle:     time.Duration(n[0]) * time.Millisecond,
		Count:    n[1],
		Interval: time.Duration(n[2]) * time.Millisecond,
	}, nil
}
