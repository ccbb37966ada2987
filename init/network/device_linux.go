package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"storeboot/init/network/ipconfig"
)

const (
	// devicePoll is the pause between two looks for the device.
	devicePoll = 20 * time.Millisecond
	// answerWait is how long to wait for an answer to a DHCP message; it is
	// repeated answerTries times.
	answerWait  = 3 * time.Second
	answerTries = 8
)

// bringUp configures one device.
func bringUp(ctx context.Context, c ipconfig.Config) (*settings, error) {
	link, err := waitLink(ctx, c.Device)
	if err != nil {
		return nil, err
	}
	name := link.Attrs().Name
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set device %s up: %w", name, err)
	}
	s := given(name, c)
	if c.DHCP {
		ack, err := ask(ctx, name, c)
		if err != nil {
			return nil, fmt.Errorf("device %s: DHCP: %w", name, err)
		}
		if err := s.add(ack); err != nil {
			return nil, err
		}
	}
	return s, apply(link, s)
}

// waitLink waits for the device; without a name for the first that is one of a
// network.
func waitLink(ctx context.Context, name string) (netlink.Link, error) {
	ctx, cancel := context.WithTimeout(ctx, deviceWait)
	defer cancel()
	for {
		links, err := netlink.LinkList()
		if err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		var names []string
		for _, l := range links {
			a := l.Attrs()
			if a.Name == name || name == "" && a.Flags&net.FlagLoopback == 0 && len(a.HardwareAddr) == 6 {
				return l, nil
			}
			names = append(names, a.Name)
		}
		select {
		case <-ctx.Done():
			if name == "" {
				return nil, errors.New("no network device: the VMM offers none, or the initrd lacks its module, such as virtio_net")
			}
			return nil, fmt.Errorf("no network device %s (there are: %s)", name, strings.Join(names, ", "))
		case <-time.After(devicePoll):
		}
	}
}

// ask gets a lease.
func ask(ctx context.Context, name string, c ipconfig.Config) (*dhcpv4.DHCPv4, error) {
	client, err := nclient4.New(name, nclient4.WithTimeout(answerWait), nclient4.WithRetry(answerTries))
	if err != nil {
		if errors.Is(err, unix.EAFNOSUPPORT) {
			err = fmt.Errorf("%w: the kernel has no packet sockets: the initrd lacks the module af_packet", err)
		}
		return nil, err
	}
	defer client.Close()
	options := []dhcpv4.Modifier{dhcpv4.WithRequestedOptions(
		dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionDomainNameServer,
		dhcpv4.OptionDomainName, dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionHostName, dhcpv4.OptionInterfaceMTU,
		dhcpv4.OptionNTPServers,
	)}
	if c.ClientID != "" {
		options = append(options, dhcpv4.WithOption(dhcpv4.OptClientIdentifier(append([]byte{c.ClientType}, c.ClientID...))))
	}
	if c.Hostname != "" {
		options = append(options, dhcpv4.WithOption(dhcpv4.OptHostName(c.Hostname)))
	}
	if c.Client.IsValid() {
		options = append(options, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(c.Client.AsSlice())))
	}
	lease, err := client.Request(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: no server answers", err)
	}
	return lease.ACK, nil
}

// apply gives the device what s says.
func apply(link netlink.Link, s *settings) error {
	if s.mtu > 0 && s.mtu != link.Attrs().MTU {
		if err := netlink.LinkSetMTU(link, s.mtu); err != nil {
			return fmt.Errorf("device %s: MTU %d: %w", s.device, s.mtu, err)
		}
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(s.address)}); err != nil {
		return fmt.Errorf("device %s: address %s: %w", s.device, s.address, err)
	}
	index := link.Attrs().Index
	routes := s.routes
	if s.gateway.IsValid() {
		if !s.address.Masked().Contains(s.gateway) {
			// It is on the link nevertheless.
			routes = append([]route{{netip.PrefixFrom(s.gateway, 32), netip.Addr{}}}, routes...)
		}
		routes = append(routes, route{netip.PrefixFrom(netip.IPv4Unspecified(), 0), s.gateway})
	}
	for _, r := range routes {
		n := &netlink.Route{LinkIndex: index, Dst: ipNet(r.to)}
		if r.via.IsValid() {
			n.Gw = r.via.AsSlice()
		} else {
			n.Scope = netlink.SCOPE_LINK
		}
		if err := netlink.RouteReplace(n); err != nil {
			return fmt.Errorf("device %s: route to %s: %w", s.device, r.to, err)
		}
	}
	if s.hostname != "" {
		if err := unix.Sethostname([]byte(s.hostname)); err != nil {
			return fmt.Errorf("set host name %s: %w", s.hostname, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}
