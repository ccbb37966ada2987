package vmm

import (
	"slices"
	"strings"
	"testing"
)

// testMachine is a sound machine, changed by each row.
func testMachine(change func(*Machine)) *Machine {
	m := &Machine{
		Arch: "amd64", Accel: TCG, CPUs: 1, Memory: 512 * mib,
		Kernel: "/boot/vmlinuz", Initrd: "/run/s/initrd", CommandLine: "console=ttyS0 storeboot.run",
		Store:  Store{Tag: "tvix", Socket: "/run/s/store.sock", Queues: 1},
		Serial: Console{Output: "/run/s/console.out"},
	}
	if change != nil {
		change(m)
	}
	return m
}

func TestMachineCheck(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Machine)
		err    string // "" for none
	}{
		{"sound", nil, ""},
		{"no CPU", func(m *Machine) { m.CPUs = 0 }, "0 CPUs: want 1 to 255"},
		{"too many CPUs", func(m *Machine) { m.CPUs = 256 }, "256 CPUs"},
		{"little memory", func(m *Machine) { m.Memory = 16 * mib }, "memory of 16M is too little: want 64M"},
		{"odd memory", func(m *Machine) { m.Memory = 100*mib + 1 }, "whole MiB"},
		{"architecture", func(m *Machine) { m.Arch = "vax" }, `"vax"`},
		{"accelerator", func(m *Machine) { m.Accel = "xen" }, `"xen"`},
		{"no kernel", func(m *Machine) { m.Kernel = "" }, "no kernel"},
		{"longest command line", func(m *Machine) { m.CommandLine = strings.Repeat("x", 2047) }, ""},
		{"long command line", func(m *Machine) { m.CommandLine = strings.Repeat("x", 2048) }, "2048 bytes: the kernel takes 2047"},
		{"longest tag", func(m *Machine) { m.Store.Tag = strings.Repeat("t", 36) }, ""},
		{"long tag", func(m *Machine) { m.Store.Tag = strings.Repeat("t", 37) }, "want 1 to 36 bytes"},
		{"long socket", func(m *Machine) { m.Store.Socket = "/" + strings.Repeat("s", 107) }, "107 are possible"},
		{"more queues than CPUs", func(m *Machine) { m.Store.Queues = 2 }, "2 store queues for 1 CPUs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := testMachine(tt.change)
			for _, h := range []Hypervisor{&QEMU{}, nil} {
				err := m.Check()
				if h != nil {
					err = h.Check(m)
				}
				if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
			}
		})
	}
}

func TestQEMUCommand(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Machine)
		has    [][]string // sequences of arguments
		hasNot []string   // parts of arguments
	}{
		{"plain", nil, [][]string{
			{"-no-reboot"},
			{"-machine", "q35,usb=off,sata=off,smbus=off,vmport=off,memory-backend=mem"},
			{"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", "512M"},
			{"-object", "memory-backend-memfd,id=mem,size=512M,share=on"},
			{"-kernel", "/boot/vmlinuz", "-initrd", "/run/s/initrd", "-append", "console=ttyS0 storeboot.run"},
			{"-chardev", "socket,id=store,path=/run/s/store.sock", "-device", "vhost-user-fs-pci,chardev=store,tag=tvix,queue-size=1024"},
			{"-chardev", "file,id=serial,path=/run/s/console.out", "-serial", "chardev:serial"},
			{"-chardev", "socket,id=monitor,fd=3", "-mon", "chardev=monitor,mode=control"},
		}, []string{"virtconsole", "num-request-queues"}},
		{"program console", func(m *Machine) { m.Program = Console{Output: "/p.out"} }, [][]string{
			{"-chardev", "file,id=program,path=/p.out", "-device", "virtio-serial-pci", "-device", "virtconsole,chardev=program"},
		}, nil},
		{"program console with input", func(m *Machine) { m.Program = Console{Output: "/p.out", Input: "/p.in"} }, [][]string{
			{"-chardev", "pipe,id=program,path=/p"},
		}, nil},
		{"KVM and CPUs", func(m *Machine) { m.Accel, m.CPUs, m.Store.Queues, m.Memory = KVM, 4, 4, 2<<30 }, [][]string{
			{"-accel", "kvm", "-cpu", "host", "-smp", "4", "-m", "2G"},
			{"-device", "vhost-user-fs-pci,chardev=store,tag=tvix,queue-size=1024,num-request-queues=4"},
		}, []string{"tcg"}},
		{"commas", func(m *Machine) { m.Store.Socket, m.Store.Tag = "/a,b/s", "t,g" }, [][]string{
			{"-chardev", "socket,id=store,path=/a,,b/s", "-device", "vhost-user-fs-pci,chardev=store,tag=t,,g,queue-size=1024"},
		}, nil},
		{"arm64", func(m *Machine) { m.Arch = "arm64" }, [][]string{{"-machine", "virt,gic-version=max,memory-backend=mem"}}, []string{"q35"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := &QEMU{Path: "/usr/bin/qemu"}
			m := testMachine(tt.change)
			if err := q.Check(m); err != nil {
				t.Fatal(err)
			}
			c := q.Command(m)
			checkArgs(t, c, tt.has, tt.hasNot)
			if c.Path != "/usr/bin/qemu" || !c.Monitor {
				t.Errorf("command %+v", c)
			}
		})
	}
	m := testMachine(func(m *Machine) { m.Serial.Input = "/elsewhere" })
	if err := (&QEMU{}).Check(m); err == nil {
		t.Error("a console whose files are no pair passes")
	}
}

func TestCloudHypervisorCommand(t *testing.T) {
	h := &CloudHypervisor{Path: "/usr/bin/cloud-hypervisor"}
	m := testMachine(func(m *Machine) {
		m.Accel, m.CPUs, m.Store.Queues = KVM, 2, 2
		m.Program = Console{Output: "/p.out"}
	})
	if err := h.Check(m); err != nil {
		t.Fatal(err)
	}
	checkArgs(t, h.Command(m), [][]string{
		{"--kernel", "/boot/vmlinuz", "--cmdline", "console=ttyS0 storeboot.run", "--cpus", "boot=2"},
		{"--memory", "size=512M,shared=on"},
		{"--fs", "tag=tvix,socket=/run/s/store.sock,num_queues=2,queue_size=1024"},
		{"--serial", "file=/run/s/console.out", "--console", "file=/p.out"},
		{"--event-monitor", "fd=3"},
		{"--initramfs", "/run/s/initrd"},
	}, []string{"mergeable"})
	m.Program = Console{}
	checkArgs(t, h.Command(m), [][]string{{"--console", "off"}}, nil)

	for name, change := range map[string]func(*Machine){
		"needs KVM":   func(m *Machine) { m.Accel = TCG },
		"store queue": func(m *Machine) { m.Store.Queues = 3 },
		"typed":       func(m *Machine) { m.Program.Input = "/p.in" },
		"carry":       func(m *Machine) { m.Store.Socket = "/a,b" },
	} {
		bad := *m
		change(&bad)
		if err := h.Check(&bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want one with %q", err, name)
		}
	}
}

func checkArgs(t *testing.T, c Command, has [][]string, hasNot []string) {
	t.Helper()
	for _, seq := range has {
		found := false
		for i := range c.Args {
			if i+len(seq) <= len(c.Args) && slices.Equal(c.Args[i:i+len(seq)], seq) {
				found = true
			}
		}
		if !found {
			t.Errorf("arguments lack %q: %q", seq, c.Args)
		}
	}
	for _, part := range hasNot {
		if strings.Contains(strings.Join(c.Args, " "), part) {
			t.Errorf("arguments have %q: %q", part, c.Args)
		}
	}
}
