package ipconfig

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestParse(t *testing.T) {
	tests := map[string]Config{
		"dhcp":              {Bits: -1, DHCP: true},
		"on":                {Bits: -1, DHCP: true},
		"any":               {Bits: -1, DHCP: true},
		"both":              {Bits: -1, DHCP: true},
		"":                  {Bits: -1, DHCP: true},
		"off":               {Bits: -1, Off: true},
		"none":              {Bits: -1, Off: true},
		"dhcp,0,machine-7":  {Bits: -1, DHCP: true, ClientID: "machine-7"},
		":::::eth1:dhcp":    {Bits: -1, DHCP: true, Device: "eth1"},
		"::::guest::dhcp":   {Bits: -1, DHCP: true, Hostname: "guest"},
		"10.0.2.15":         {Client: addr("10.0.2.15"), Bits: 8},
		"172.16.0.1::::::":  {Client: addr("172.16.0.1"), Bits: 16},
		"192.168.1.2::":     {Client: addr("192.168.1.2"), Bits: 24},
		"0.0.0.0:::::eth0:": {Bits: -1, DHCP: true, Device: "eth0"},
		"10.0.2.15:10.0.2.2:10.0.2.3:255.255.255.0:name:eth0:off:1.1.1.1:8.8.8.8:10.0.2.4": {
			Client: addr("10.0.2.15"), Server: addr("10.0.2.2"), Gateway: addr("10.0.2.3"), Bits: 24, Hostname: "name", Device: "eth0",
			DNS: []netip.Addr{addr("1.1.1.1"), addr("8.8.8.8")}, NTP: addr("10.0.2.4"),
		},
		"10.0.2.15::10.0.2.2:20::eth0:none::9.9.9.9": {
			Client: addr("10.0.2.15"), Gateway: addr("10.0.2.2"), Bits: 20, Device: "eth0", DNS: []netip.Addr{addr("9.9.9.9")},
		},
		// An address that is given, and the rest asked for.
		"10.0.2.15:::::eth0:dhcp,1,ab": {Client: addr("10.0.2.15"), Bits: 8, Device: "eth0", DHCP: true, ClientType: 1, ClientID: "ab"},
	}
	for in, want := range tests {
		if got, err := Parse(in); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for in, want := range map[string]string{
		"bootp":                   "not supported",
		"rarp":                    "not supported",
		"dchp":                    "unknown method",
		"1:2:3:4:5:6:7:8:9:10:11": "11 fields",
		"10.0.2":                  "IPv4",
		"fe80::1":                 "IPv4",
		":::255.0.255.0::eth0:":   "mask",
		":::33::eth0:":            "mask",
		":::::eth0:off":           "no address",
		":::::a/b:dhcp":           "device",
		":::::0123456789abcdef:":  "device",
		"dhcp,256,x":              "TYPE",
		"dhcp,1":                  "TYPE",
		"on,1,x":                  "client identifier",
		"::::" + strings.Repeat("h", 65) + "::dhcp": "host name",
		"10.0.0.1:::::::nowhere":                    "name server",
	} {
		if c, err := Parse(in); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "ip="+in) {
			t.Errorf("%q: %+v, %v; want an error with %q", in, c, err, want)
		}
	}
}

func TestAll(t *testing.T) {
	got, err := All([]string{"dhcp", ":::::eth1:dhcp", "10.0.0.1:::::eth1:", "off"})
	if err != nil || len(got) != 2 || !got[0].Off || got[1].Client != addr("10.0.0.1") {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := All([]string{"dhcp", "x"}); err == nil {
		t.Error("no error")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"dhcp", "off", "dhcp,1,x", "10.0.2.15:10.0.2.2:10.0.2.3:255.255.255.0:name:eth0:off:1.1.1.1:8.8.8.8:10.0.2.4", ":::::eth0:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse(s)
		switch {
		case err != nil:
		case c.Bits < -1 || c.Bits > 32 || len(c.Device) > maxDevice || len(c.DNS) > 2:
			t.Errorf("%q: %+v", s, c)
		case !c.Off && !c.DHCP && (!c.Client.Is4() || c.Bits < 0):
			t.Errorf("%q: nothing to do: %+v", s, c)
		}
	})
}
