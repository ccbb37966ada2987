package vmm

import (
	"strings"
	"testing"
)

func TestParseNet(t *testing.T) {
	for text, want := range map[string]Net{
		"user":                           {Kind: NetUser},
		"passt":                          {Kind: NetPasst},
		"tap=tap0":                       {Kind: NetTap, Interface: "tap0"},
		"tap=tap0,mac=52:54:00:12:34:56": {Kind: NetTap, Interface: "tap0", MAC: "52:54:00:12:34:56"},
	} {
		got, err := ParseNet(text)
		if err != nil || got.Kind != want.Kind || got.Interface != want.Interface || got.MAC != want.MAC {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, part := range map[string]string{
		"": "want user", "bridge": "want user", "tap": "ip tuntap", "user=x": "takes no value",
		"tap=a-name-that-is-long": "15 bytes", "user,mac=53:54:00:12:34:56": "no address", "user,x=y": "only mac=",
	} {
		if _, err := ParseNet(text); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v, want %q", text, err, part)
		}
	}
}

func TestParsePort(t *testing.T) {
	for text, want := range map[string]string{
		"8080:80":             "127.0.0.1:8080:80/tcp",
		"8080:80/udp":         "127.0.0.1:8080:80/udp",
		"0.0.0.0:22:2222/tcp": "0.0.0.0:22:2222/tcp",
		"192.168.1.2:65535:1": "192.168.1.2:65535:1/tcp",
	} {
		if got, err := ParsePort(text); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for text, part := range map[string]string{
		"80": "HOST:GUEST", "0:80": "no port", "80:65536": "no port", "x:80": "no port", "host:1:2": "no IPv4", "[::1]:1:2": "no IPv4", "1:2/sctp": "want tcp or udp",
	} {
		if _, err := ParsePort(text); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v, want %q", text, err, part)
		}
	}
}

// FuzzNet holds that what is accepted can be written as options.
func FuzzNet(f *testing.F) {
	for _, s := range []string{"user", "tap=tap0,mac=52:54:00:12:34:56", "8080:80/udp", "0.0.0.0:1:2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseNet(s); err == nil && n.Kind == NetTap && n.Interface == "" {
			t.Errorf("%q: a tap without a name", s)
		}
		if p, err := ParsePort(s); err == nil {
			if p.Host == 0 || p.Guest == 0 || strings.ContainsAny(p.qemu(), ", ") {
				t.Errorf("%q: %s", s, p.qemu())
			}
		}
	})
}
