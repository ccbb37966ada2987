package grpcserver_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storeboot/virtiofsd/grpcserver"
)

func TestListen(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		address string
		network string
		public  bool
	}{
		{"127.0.0.1:0", "tcp", false},
		{":0", "tcp", false},
		{"localhost:0", "tcp", false},
		{"0.0.0.0:0", "tcp", true},
		{filepath.Join(dir, "s"), "unix", false},
		{"@storeboot-test-" + filepath.Base(dir), "unix", false},
	} {
		list, err := grpcserver.Listen(tt.address)
		if err != nil {
			t.Errorf("%s: %v", tt.address, err)
			continue
		}
		for _, l := range list {
			if l.Addr().Network() != tt.network || grpcserver.IsPublic(l) != tt.public {
				t.Errorf("%s: listens on %v, public %v", tt.address, l.Addr(), grpcserver.IsPublic(l))
			}
			if a := l.Addr().String(); strings.HasPrefix(tt.address, "0.0.0.0") && !strings.HasPrefix(a, "0.0.0.0") {
				t.Errorf("%s: listens on %s", tt.address, a)
			}
			c, err := net.Dial(l.Addr().Network(), l.Addr().String())
			if err != nil {
				t.Errorf("%s: %v", tt.address, err)
			} else {
				_ = c.Close()
			}
			_ = l.Close()
		}
	}
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"":                             "want IP:PORT",
		"8000":                         "want IP:PORT",
		"store.example:8000":           "not an IP address",
		"127.0.0.1:http":               "not a number",
		"127.0.0.1:70000":              "not a number",
		used.Addr().String():           "in use",
		file:                           "no socket",
		dir + "/none/s":                "no such file",
		"sd-listen":                    "no socket",
		"sd-listen:store":              "FileDescriptorName=store",
		"sd-listen:*":                  "no socket",
		"/" + strings.Repeat("x", 120): "107",
	} {
		list, err := grpcserver.Listen(address)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want %q", address, list, err, want)
		}
	}
}
