package vmm

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// NetKind is what is behind a guest's network device.
type NetKind string

const (
	// NetUser is a user-space network that needs no rights: QEMU's own (slirp).
	NetUser NetKind = "user"
	// NetPasst is passt's, in a process of its own, by its socket.
	NetPasst NetKind = "passt"
	// NetTap is a tap interface of the host, which exists and is this user's.
	NetTap NetKind = "tap"
)

// Net is one network device.
type Net struct {
	Kind      NetKind `json:"kind"`
	MAC       string  `json:"mac"`                 // as 52:54:00:12:34:56
	Interface string  `json:"interface,omitempty"` // of NetTap
	Socket    string  `json:"socket,omitempty"`    // of NetPasst
	Publish   []Port  `json:"publish,omitempty"`   // of NetUser and NetPasst
}

// Port passes connections to a port of the host on to one of the guest.
type Port struct {
	UDP     bool       `json:"udp,omitempty"`
	Address netip.Addr `json:"address"` // of the host
	Host    uint16     `json:"host"`
	Guest   uint16     `json:"guest"`
}

// ParseNet reads user, passt or tap=INTERFACE, with ,mac=ADDRESS behind it.
func ParseNet(s string) (Net, error) {
	kind, options, _ := strings.Cut(s, ",")
	kind, name, hasName := strings.Cut(kind, "=")
	n := Net{Kind: NetKind(kind), Interface: name}
	switch {
	case n.Kind == NetTap && name == "":
		return Net{}, errors.New("want tap=INTERFACE, a tap interface of the host (ip tuntap add dev tap0 mode tap user $USER)")
	case n.Kind != NetTap && n.Kind != NetUser && n.Kind != NetPasst:
		return Net{}, fmt.Errorf("%q: want user, passt or tap=INTERFACE", s)
	case n.Kind != NetTap && hasName:
		return Net{}, fmt.Errorf("%q: %s takes no value", s, n.Kind)
	case len(name) > 15: // IFNAMSIZ less the NUL byte
		return Net{}, fmt.Errorf("interface %q: a name has at most 15 bytes", name)
	}
	if options == "" {
		return n, nil
	}
	mac, ok := strings.CutPrefix(options, "mac=")
	if !ok {
		return Net{}, fmt.Errorf("%q: only mac=ADDRESS may follow", options)
	}
	hw, err := net.ParseMAC(mac)
	if err != nil || len(hw) != 6 || hw[0]&1 != 0 {
		return Net{}, fmt.Errorf("%q is no address of a network device (as 52:54:00:12:34:56)", mac)
	}
	n.MAC = hw.String()
	return n, nil
}

// ParsePort reads [ADDRESS:]HOST:GUEST[/udp]. Without an address only this host
// is served, by 127.0.0.1.
func ParsePort(s string) (Port, error) {
	ports, protocol, hasProtocol := strings.Cut(s, "/")
	p := Port{UDP: protocol == "udp", Address: netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if hasProtocol && protocol != "udp" && protocol != "tcp" {
		return Port{}, fmt.Errorf("protocol %q: want tcp or udp", protocol)
	}
	i := strings.LastIndexByte(ports, ':')
	if i < 0 {
		return Port{}, fmt.Errorf("%q: want HOST:GUEST, two port numbers", s)
	}
	host, guest := ports[:i], ports[i+1:]
	if j := strings.LastIndexByte(host, ':'); j >= 0 {
		addr, err := netip.ParseAddr(strings.Trim(host[:j], "[]"))
		if err != nil || !addr.Is4() {
			return Port{}, fmt.Errorf("%q is no IPv4 address of this host", host[:j])
		}
		p.Address, host = addr, host[j+1:]
	}
	for _, x := range []struct {
		text string
		port *uint16
	}{{host, &p.Host}, {guest, &p.Guest}} {
		n, err := strconv.ParseUint(x.text, 10, 16)
		if err != nil || n == 0 {
			return Port{}, fmt.Errorf("%q is no port: want 1 to 65535", x.text)
		}
		*x.port = uint16(n)
	}
	return p, nil
}

// protocol is the port's, as all tools spell it.
func (p Port) protocol() string {
	if p.UDP {
		return "udp"
	}
	return "tcp"
}

func (p Port) String() string {
	return fmt.Sprintf("%s:%d:%d/%s", p.Address, p.Host, p.Guest, p.protocol())
}

// qemu is the value of a hostfwd option.
func (p Port) qemu() string {
	return fmt.Sprintf("%s:%s:%d-:%d", p.protocol(), p.Address, p.Host, p.Guest)
}

// MAC is the address of the network device i of the VM with that seed. The
// first byte says that it was given locally.
func MAC(seed [4]byte, i int) string {
	return net.HardwareAddr{0x52, seed[0], seed[1], seed[2], seed[3], byte(i)}.String()
}
