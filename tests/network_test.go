package tests

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withNetwork is an environment whose QEMU has a network card with QEMU's own
// network behind it, in which 10.0.2.2 is this machine.
func withNetwork(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	// What is asked about its version must not see the card.
	script := `#!/bin/sh
PATH=` + os.Getenv("PATH") + `
case "$*" in *-kernel*) set -- "$@" -netdev user,id=test,restrict=off -device virtio-net-pci,netdev=test,romfile= ;; esac
exec qemu-system-x86_64 "$@"
`
	if err := os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
}

// TestNetwork holds that ip= gives the guest a network, by DHCP and by hand, in
// an image that has what it takes.
func TestNetwork(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	prog := w.addInitProg()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("well met"))
			_ = c.Close()
		}
	}()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	env := withNetwork(t)
	tests := []struct {
		name, ip string
		code     int
		stdout   []string
		stderr   string
		usual    bool
	}{
		{"DHCP", "ip=dhcp", 0, []string{"nameserver 10.0.2.3\n", "PROTO='dhcp'", "IPV4ADDR='10.0.2.15'", "IPV4NETMASK='255.255.255.0'", "IPV4GATEWAY='10.0.2.2'", "peer: well met\n"}, "", true},
		{"by hand", "ip=10.0.2.99::10.0.2.2:24:visitor:eth0:off:10.0.2.3:9.9.9.9", 0,
			[]string{"nameserver 10.0.2.3\nnameserver 9.9.9.9\n", "PROTO='static'", "IPV4ADDR='10.0.2.99'", "visitor\n", "peer: well met\n"}, "", false},
		{"no such device", "ip=:::::eth7:dhcp", 1, nil, "no network device eth7 (there are: lo, eth0)", false},
		{"a mistake", "ip=dchp", 1, nil, `hook /bin/network: exit status 1; its last words: "network: ip=dchp: unknown method`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !tt.usual && !everyVM() {
				t.Skip("SKIP: DHCP and the program's own tests stand for it; STOREBOOT_VM_TESTS=all boots it")
			}
			r := w.run(env, "launcher", "run", "--template", "net", "--vmm", "qemu", "--cmdline", tt.ip, prog, "network", "10.0.2.2:"+port)
			for _, want := range tt.stdout {
				if !strings.Contains(r.stdout, want) {
					t.Errorf("output lacks %q", want)
				}
			}
			if r.code != tt.code || !strings.Contains(strings.ReplaceAll(r.stderr, "\\", ""), tt.stderr) || t.Failed() {
				t.Errorf("want exit %d and %q: %s", tt.code, tt.stderr, r)
			}
		})
	}
}
