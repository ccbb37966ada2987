package main

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"storeboot/init/network/ipconfig"
)

func answer(t *testing.T, options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	t.Helper()
	ack, err := dhcpv4.New(dhcpv4.WithYourIP(net.IPv4(10, 0, 2, 15)))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range options {
		ack.UpdateOption(o)
	}
	return ack
}

func TestSettings(t *testing.T) {
	full := answer(t,
		dhcpv4.OptSubnetMask(net.CIDRMask(24, 32)), dhcpv4.OptRouter(net.IPv4(10, 0, 2, 2)),
		dhcpv4.OptDNS(net.IPv4(10, 0, 2, 3), net.IPv4(0, 0, 0, 0)), dhcpv4.OptDomainName("example.org"),
		dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: []string{"example.org", "a.b"}}),
		dhcpv4.OptHostName("guest"), dhcpv4.OptNTPServers(net.IPv4(10, 0, 2, 4)),
		dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(1400)},
	)
	a := netip.MustParseAddr
	c, err := ipconfig.Parse("dhcp")
	if err != nil {
		t.Fatal(err)
	}
	s := given("eth0", c)
	if err := s.add(full); err != nil {
		t.Fatal(err)
	}
	want := &settings{
		device: "eth0", method: "dhcp", address: netip.MustParsePrefix("10.0.2.15/24"), gateway: a("10.0.2.2"),
		dns: []netip.Addr{a("10.0.2.3")}, search: []string{"example.org", "a.b"}, hostname: "guest", mtu: 1400, ntp: []netip.Addr{a("10.0.2.4")},
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("%+v, want %+v", s, want)
	}
	if text := s.String(); text != "eth0 has 10.0.2.15/24 (dhcp), gateway 10.0.2.2, name servers 10.0.2.3" {
		t.Error(text)
	}
	// What the command line gives counts.
	if c, err = ipconfig.Parse("::10.0.2.9:::eth0:dhcp:9.9.9.9"); err != nil {
		t.Fatal(err)
	}
	c.Hostname = "mine"
	s = given("eth0", c)
	if err := s.add(full); err != nil || s.gateway != a("10.0.2.9") || s.hostname != "mine" || !reflect.DeepEqual(s.dns, []netip.Addr{a("9.9.9.9")}) {
		t.Errorf("%+v, %v", s, err)
	}
	// Classless routes count before the router, the default one too.
	route0 := &dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Router: net.IPv4(10, 0, 2, 7)}
	route1 := &dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(172, 16, 0, 0), Mask: net.CIDRMask(12, 32)}, Router: net.IPv4zero}
	s = &settings{}
	if err := s.add(answer(t, dhcpv4.OptRouter(net.IPv4(10, 0, 2, 2)), dhcpv4.OptClasslessStaticRoute(route0, route1))); err != nil {
		t.Fatal(err)
	}
	if s.gateway != a("10.0.2.7") || !reflect.DeepEqual(s.routes, []route{{netip.MustParsePrefix("172.16.0.0/12"), netip.Addr{}}}) || s.address.Bits() != 32 {
		t.Errorf("%+v", s)
	}
	// A server's names do not become lines of a file.
	s = &settings{}
	if err := s.add(answer(t, dhcpv4.OptHostName("a\nb"), dhcpv4.OptDomainName("x y'"))); err != nil || s.hostname != "" || len(s.search) > 0 {
		t.Errorf("%+v, %v", s, err)
	}
	none := answer(t)
	none.YourIPAddr = net.IPv4zero
	if err := (&settings{}).add(none); err == nil {
		t.Error("a lease without an address")
	}
}

func TestWriteFiles(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"etc", "run"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c, err := ipconfig.Parse("10.0.2.15::10.0.2.2:24:guest:eth0:off:9.9.9.9")
	if err != nil {
		t.Fatal(err)
	}
	s := given("eth0", c)
	s.search = []string{"a.b"}
	if err := writeFiles(root, []*settings{s}, []string{"fe80::1"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "etc/resolv.conf"))
	if want := "search a.b\nnameserver fe80::1\nnameserver 9.9.9.9\n"; err != nil || string(text) != want {
		t.Errorf("%q, %v; want %q", text, err, want)
	}
	text, err = os.ReadFile(filepath.Join(root, "run/net-eth0.conf"))
	for _, want := range []string{"DEVICE='eth0'\n", "IPV4ADDR='10.0.2.15'\n", "IPV4NETMASK='255.255.255.0'\n", "IPV4GATEWAY='10.0.2.2'\n", "IPV4DNS0='9.9.9.9'\n", "IPV4DNS1='0.0.0.0'\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q, %v lacks %q", text, err, want)
		}
	}
}

func TestRun(t *testing.T) {
	file := func(line string) string {
		f := filepath.Join(t.TempDir(), "cmdline")
		if err := os.WriteFile(f, []byte(line), 0o644); err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, tt := range []struct {
		args     []string
		code     int
		out, err string
	}{
		{[]string{"--help"}, 0, "ip=CLIENT:SERVER", ""},
		{[]string{"--cmdline", file("quiet -- ip=dhcp")}, 0, "", ""},
		{[]string{"--cmdline", file("ip=off")}, 0, "", ""},
		{[]string{"--cmdline", file("ip=dchp")}, 1, "", "unknown method"},
		{[]string{"--cmdline", file("nameserver=")}, 1, "", "want an address"},
		{[]string{"--cmdline", "/no/such/file"}, 1, "", "no such file"},
		{[]string{"-x"}, 2, "", "--help"},
	} {
		var out, errOut bytes.Buffer
		if code := run(tt.args, &out, &errOut); code != tt.code || !strings.Contains(out.String(), tt.out) || !strings.Contains(errOut.String(), tt.err) {
			t.Errorf("%q: exit %d, %q, %q", tt.args, code, out.String(), errOut.String())
		}
	}
}
