package ipconfig

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Config is what one ip= asks for. An address that is not valid is not given.
type Config struct {
	Client   netip.Addr
	Server   netip.Addr // of the boot, for whoever asks
	Gateway  netip.Addr
	Bits     int    // of the network mask, 0 to 32; -1 if not given
	Hostname string // "" if not given
	// Device is the interface, such as eth0; "" is the first that there is.
	Device string
	// Off says that nothing is to be done at all.
	Off bool
	// DHCP says that what is not given is asked for.
	DHCP bool
	// ClientType and ClientID are the client identifier to send (RFC 2132, 9.14);
	// an empty ClientID is the hardware address.
	ClientType byte
	ClientID   string
	DNS        []netip.Addr // at most 2
	NTP        netip.Addr
}

// Limits of names.
const (
	maxDevice   = 15 // IFNAMSIZ less the NUL byte
	maxHostname = 64 // __NEW_UTS_LEN
)

// Parse reads the value of ip=.
func Parse(value string) (Config, error) {
	c, err := parse(value)
	if err != nil {
		return Config{}, fmt.Errorf("ip=%s: %w", value, err)
	}
	return c, nil
}

func parse(value string) (Config, error) {
	c := Config{Bits: -1}
	fields := strings.Split(value, ":")
	if len(fields) == 1 && (value == "" || !strings.Contains(value, ".")) {
		err := c.autoconf(value)
		c.Off = err == nil && !c.DHCP
		return c, err
	}
	if len(fields) > 10 {
		return c, fmt.Errorf("%d fields, there are 10 (CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1:NTP0)", len(fields))
	}
	fields = append(fields, make([]string, 10-len(fields))...)
	var dns [2]netip.Addr
	for _, f := range []struct {
		name string
		text string
		to   *netip.Addr
	}{
		{"client", fields[0], &c.Client}, {"server", fields[1], &c.Server}, {"gateway", fields[2], &c.Gateway},
		{"name server", fields[7], &dns[0]}, {"name server", fields[8], &dns[1]}, {"time server", fields[9], &c.NTP},
	} {
		a, err := parseAddr(f.text)
		if err != nil {
			return c, fmt.Errorf("%s %w", f.name, err)
		}
		*f.to = a
	}
	for _, a := range dns {
		if a.IsValid() {
			c.DNS = append(c.DNS, a)
		}
	}
	var err error
	if c.Bits, err = parseMask(fields[3]); err != nil {
		return c, err
	}
	if c.Hostname = fields[4]; len(c.Hostname) > maxHostname {
		return c, fmt.Errorf("host name of %d bytes, %d are possible", len(c.Hostname), maxHostname)
	}
	if c.Device = fields[5]; len(c.Device) > maxDevice || strings.ContainsAny(c.Device, "/ \t\n") || c.Device == "." || c.Device == ".." {
		return c, fmt.Errorf("device %q: no name of a network device", c.Device)
	}
	if fields[6] == "" {
		c.DHCP = !c.Client.IsValid()
	} else if err := c.autoconf(fields[6]); err != nil {
		return c, err
	}
	switch {
	case !c.DHCP && !c.Client.IsValid():
		return c, fmt.Errorf("no address, and none is to be asked for (want CLIENT, or dhcp as AUTOCONF)")
	case c.Bits < 0 && c.Client.IsValid():
		c.Bits = classBits(c.Client)
	}
	return c, nil
}

// autoconf reads the method.
func (c *Config) autoconf(s string) error {
	method, id, hasID := strings.Cut(s, ",")
	switch {
	case hasID && method != "dhcp":
		return fmt.Errorf("%q: only dhcp has a client identifier", s)
	case hasID:
		kind, value, ok := strings.Cut(id, ",")
		n, err := strconv.ParseUint(kind, 10, 8)
		// The option's length is one byte, and the type is part of it.
		if !ok || err != nil || value == "" || len(value) > 253 {
			return fmt.Errorf("%q: want dhcp,TYPE,VALUE with a type of 0 to 255 and a value of 1 to 253 bytes", s)
		}
		c.ClientType, c.ClientID = byte(n), value
	}
	switch method {
	case "off", "none":
		c.DHCP = false
	case "", "on", "any", "both", "dhcp", "auto":
		c.DHCP = true
	case "bootp", "rarp":
		return fmt.Errorf("%s is not supported: use dhcp", method)
	default:
		return fmt.Errorf("unknown method %q: want dhcp, on, any, both, off or none", method)
	}
	return nil
}

func parseAddr(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return netip.Addr{}, fmt.Errorf("%q: want an IPv4 address", s)
	}
	if a.IsUnspecified() {
		return netip.Addr{}, nil // as the kernel prints what is not set
	}
	return a, nil
}

// parseMask reads a mask as an address or a number of bits, -1 for none.
func parseMask(s string) (int, error) {
	if s == "" {
		return -1, nil
	}
	if n, err := strconv.ParseUint(s, 10, 8); err == nil && n <= 32 {
		return int(n), nil
	}
	a, err := netip.ParseAddr(s)
	if err == nil && a.Is4() {
		b := a.As4()
		mask := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		for n := range 33 {
			if mask == ^uint32(0)<<(32-n) {
				return n, nil
			}
		}
	}
	return -1, fmt.Errorf("mask %q: want one as 255.255.255.0, or a number of bits", s)
}

// classBits is the mask of an address without one (inet_abc_len of Linux).
func classBits(a netip.Addr) int {
	switch first := a.As4()[0]; {
	case first < 128:
		return 8
	case first < 192:
		return 16
	case first < 224:
		return 24
	}
	return 32
}

// All are the configurations of several ip=, in order: of those for the same
// device the last.
func All(values []string) ([]Config, error) {
	var list []Config
next:
	for _, v := range values {
		c, err := Parse(v)
		if err != nil {
			return nil, err
		}
		for i := range list {
			if list[i].Device == c.Device {
				list[i] = c
				continue next
			}
		}
		list = append(list, c)
	}
	return list, nil
}
