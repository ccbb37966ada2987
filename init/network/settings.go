package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"storeboot/init/network/ipconfig"
)

// settings are what a device is given.
type settings struct {
	device   string
	method   string // "dhcp" or "static"
	address  netip.Prefix
	gateway  netip.Addr
	routes   []route // beside that of the gateway
	dns      []netip.Addr
	search   []string
	hostname string
	mtu      int // 0 leaves it
	server   netip.Addr
	ntp      []netip.Addr
}

type route struct {
	to  netip.Prefix
	via netip.Addr // not valid: on the link
}

// given are the settings that the command line names.
func given(device string, c ipconfig.Config) *settings {
	s := &settings{device: device, method: "static", gateway: c.Gateway, dns: c.DNS, hostname: c.Hostname, server: c.Server}
	if c.Client.IsValid() {
		s.address = netip.PrefixFrom(c.Client, c.Bits)
	}
	if c.NTP.IsValid() {
		s.ntp = []netip.Addr{c.NTP}
	}
	return s
}

// add takes from a DHCP answer the address, and all that is not given. The
// answer is not trusted: what cannot be is left out, or an error if nothing is
// possible without.
func (s *settings) add(ack *dhcpv4.DHCPv4) error {
	s.method = "dhcp"
	ip, ok := address(ack.YourIPAddr)
	if !ok {
		return fmt.Errorf("device %s: the DHCP server offers no address", s.device)
	}
	bits := 32
	if mask := ack.SubnetMask(); mask != nil {
		if n, size := mask.Size(); size == 32 {
			bits = n
		}
	} else if s.address.IsValid() {
		bits = s.address.Bits()
	}
	s.address = netip.PrefixFrom(ip, bits)
	// Where there are classless routes, the router does not count (RFC 3442).
	routes := ack.ClasslessStaticRoute()
	for _, r := range routes {
		to, via := prefix(r.Dest), netip.Addr{}
		if a, ok := address(r.Router); ok {
			via = a
		}
		switch {
		case !to.IsValid():
		case to.Bits() > 0:
			s.routes = append(s.routes, route{to, via})
		case !s.gateway.IsValid():
			s.gateway = via
		}
	}
	if list := addresses(ack.Router()); len(list) > 0 && !s.gateway.IsValid() && len(routes) == 0 {
		s.gateway = list[0]
	}
	if len(s.dns) == 0 {
		s.dns = addresses(ack.DNS())
	}
	if len(s.ntp) == 0 {
		s.ntp = addresses(ack.NTPServers())
	}
	if a, ok := address(ack.ServerIPAddr); ok && !s.server.IsValid() {
		s.server = a
	}
	if s.hostname == "" && isName(ack.HostName()) {
		s.hostname = ack.HostName()
	}
	names := []string{ack.DomainName()}
	if l := ack.DomainSearch(); l != nil {
		names = append(names, l.Labels...)
	}
	for _, n := range names {
		if isName(n) && !slices.Contains(s.search, n) {
			s.search = append(s.search, n)
		}
	}
	// 68 bytes is the least that IPv4 has to pass on (RFC 791).
	if n, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil && n >= 68 {
		s.mtu = int(n)
	}
	return nil
}

func address(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip.To4())
	return a, ok && !a.IsUnspecified()
}

func addresses(ips []net.IP) (list []netip.Addr) {
	for _, ip := range ips {
		if a, ok := address(ip); ok {
			list = append(list, a)
		}
	}
	return list
}

func prefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	bits, size := n.Mask.Size()
	a, ok := netip.AddrFromSlice(n.IP.To4())
	if !ok || size != 32 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// isName holds for names of hosts and domains: they become part of files.
func isName(s string) bool {
	return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r == '.' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	})
}

// String is what there is to say of it, on one line.
func (s *settings) String() string {
	text := fmt.Sprintf("%s has %s (%s)", s.device, s.address, s.method)
	if s.gateway.IsValid() {
		text += ", gateway " + s.gateway.String()
	}
	if len(s.dns) > 0 {
		text += ", name servers " + join(s.dns)
	}
	return text
}

func join(list []netip.Addr) string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

// writeFiles writes etc/resolv.conf and, for each device, run/net-DEVICE.conf
// below root, as ipconfig(8) of klibc does.
func writeFiles(root string, all []*settings, servers []string) error {
	var resolv strings.Builder
	var search []string
	for _, s := range all {
		for _, n := range s.search {
			if !slices.Contains(search, n) {
				search = append(search, n)
			}
		}
		for _, a := range s.dns {
			if !slices.Contains(servers, a.String()) {
				servers = append(servers, a.String())
			}
		}
		if err := os.WriteFile(filepath.Join(root, "run/net-"+s.device+".conf"), []byte(s.file()), 0o644); err != nil {
			return err
		}
	}
	if len(search) > 0 {
		fmt.Fprintf(&resolv, "search %s\n", strings.Join(search, " "))
	}
	for _, a := range servers {
		fmt.Fprintf(&resolv, "nameserver %s\n", a)
	}
	if resolv.Len() == 0 {
		return nil
	}
	return os.WriteFile(filepath.Join(root, "etc/resolv.conf"), []byte(resolv.String()), 0o644)
}

func (s *settings) file() string {
	mask := net.CIDRMask(s.address.Bits(), 32)
	dns, ntp := append(slices.Clone(s.dns), netip.Addr{}, netip.Addr{}), append(slices.Clone(s.ntp), netip.Addr{})
	var out strings.Builder
	for _, kv := range [][2]string{
		{"DEVICE", s.device}, {"PROTO", s.method}, {"IPV4ADDR", s.address.Addr().String()}, {"IPV4NETMASK", net.IP(mask).String()},
		{"IPV4GATEWAY", text(s.gateway)}, {"IPV4DNS0", text(dns[0])}, {"IPV4DNS1", text(dns[1])}, {"IPV4NTP0", text(ntp[0])},
		{"ROOTSERVER", text(s.server)}, {"HOSTNAME", s.hostname}, {"DOMAINSEARCH", strings.Join(s.search, " ")},
	} {
		fmt.Fprintf(&out, "%s='%s'\n", kv[0], kv[1])
	}
	return out.String()
}

// text is the address, 0.0.0.0 for none.
func text(a netip.Addr) string {
	if !a.IsValid() {
		return "0.0.0.0"
	}
	return a.String()
}
