package grpcserver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/vhostuser"
)

// systemdAddress is the address of the sockets that systemd hands over
// (sd_listen_fds(3)).
const systemdAddress = "sd-listen"

// Listen makes the listening sockets of an address:
//
//	IP:PORT, [IPV6]:PORT  TCP
//	:PORT                 TCP on the loopback addresses alone
//	/PATH, ./PATH         a unix socket that only the own user may connect to;
//	                      one to which nobody listens any more is replaced
//	@NAME                 an abstract unix socket, open to all local users
//	sd-listen             the one socket that systemd hands over
//	sd-listen:NAME        those of that FileDescriptorName=
//	sd-listen:*           all of them
func Listen(address string) ([]net.Listener, error) {
	switch {
	case address == systemdAddress || strings.HasPrefix(address, systemdAddress+":"):
		return listenSystemd(address)
	case strings.HasPrefix(address, "@"):
		l, err := net.Listen("unix", address)
		return one(address, l, err)
	case strings.HasPrefix(address, "/") || strings.HasPrefix(address, "./") || strings.HasPrefix(address, "../"):
		l, err := vhostuser.Listen(address)
		if err != nil {
			return nil, err
		}
		return []net.Listener{l}, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: want IP:PORT, :PORT, /PATH, @NAME or sd-listen", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return nil, fmt.Errorf("listen on %q: the port %q is not a number up to 65535", address, port)
	} else if host == "" || host == "localhost" {
		return listenLoopback(address, int(n))
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %q is not an IP address", address, host)
	}
	network := "tcp"
	if ip.Is4() {
		network = "tcp4" // package net takes 0.0.0.0 for IPv6 too
	}
	l, err := net.Listen(network, address)
	return one(address, l, err)
}

// one is the result of making one socket.
func one(address string, l net.Listener, err error) ([]net.Listener, error) {
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, cause(err))
	}
	return []net.Listener{l}, nil
}

// listenLoopback listens on both loopback addresses, or on the one there is. The
// port 0 stands for a free one.
func listenLoopback(address string, port int) ([]net.Listener, error) {
	var list []net.Listener
	for _, ip := range []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback} {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: ip, Port: port})
		if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
			continue
		}
		if err != nil {
			closeAll(list)
			return nil, fmt.Errorf("listen on %s: %w", address, cause(err))
		}
		list = append(list, l)
		port = l.Addr().(*net.TCPAddr).Port
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("listen on %s: this machine has no loopback address", address)
	}
	return list, nil
}

func listenSystemd(address string) ([]net.Listener, error) {
	byName, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	_, want, named := strings.Cut(address, ":")
	var list, other []net.Listener
	for name, l := range byName {
		if !named || want == "*" || want == name {
			list = append(list, l...)
		} else {
			other = append(other, l...)
		}
	}
	closeAll(other)
	switch {
	case len(list) == 0 && named && want != "*":
		return nil, fmt.Errorf("listen on %s: systemd handed over no socket of the name %q: set FileDescriptorName=%s in the socket unit", address, want, want)
	case len(list) == 0:
		return nil, fmt.Errorf("listen on %s: systemd handed over no socket: start the socket unit instead of the service", address)
	case len(list) > 1 && !named:
		closeAll(list)
		return nil, fmt.Errorf("listen on %s: systemd handed over %d sockets: write sd-listen:NAME, or sd-listen:* for all", address, len(list))
	}
	return list, nil
}

func closeAll(list []net.Listener) {
	for _, l := range list {
		_ = l.Close()
	}
}

// cause is the system's error within that of package net, which repeats the
// address.
func cause(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// IsPublic says whether other machines may be able to connect to l.
func IsPublic(l net.Listener) bool {
	a, ok := l.Addr().(*net.TCPAddr)
	return ok && !a.IP.IsLoopback()
}

// Addresses are those of listeners, as text.
func Addresses(list []net.Listener) []string {
	var s []string
	for _, l := range list {
		s = append(s, l.Addr().String())
	}
	slices.Sort(s)
	return s
}
