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
		{"unknown board", func(m *Machine) { m.Board = "pc" }, "there are q35, microvm and virt"},
		{"board of another architecture", func(m *Machine) { m.Board = Virt }, "virt is not one of amd64"},
		{"hot-plug on microvm", func(m *Machine) { m.Board, m.MaxMemory = MicroVM, 1<<30 }, "--machine q35"},
		{"crowded microvm", func(m *Machine) { m.Board, m.Disks = MicroVM, make([]Disk, 5) }, "room for 4"},
		{"share twice", func(m *Machine) { m.Shares = []Store{{Tag: "a"}, {Tag: "a"}} }, "a is there twice"},
		{"share with the store's tag", func(m *Machine) { m.Shares = []Store{{Tag: "tvix"}} }, "the store's is tvix"},
		{"share with a long tag", func(m *Machine) { m.Shares = []Store{{Tag: strings.Repeat("t", 37)}} }, "want 1 to 36"},
		{"less memory at most", func(m *Machine) { m.MaxMemory = 256 * mib }, "want more at most"},
		{"odd hot-plug", func(m *Machine) { m.MaxMemory = 600 * mib }, "multiples of 128M"},
		{"host's vsock address", func(m *Machine) { m.Vsock = &Vsock{CID: 2} }, "want 3 or more"},
		{"odd huge pages", func(m *Machine) { m.HugePages, m.Memory = true, 65*mib }, "multiple of the huge page's 2M"},
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
			{"-device", "virtio-serial-pci", "-chardev", "file,id=program,path=/p.out", "-device", "virtconsole,chardev=program"},
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
		{"arm64", func(m *Machine) { m.Arch = "arm64" }, [][]string{
			{"-machine", "virt,gic-version=max,memory-backend=mem", "-accel", "tcg,thread=multi", "-cpu", "max,pauth-impdef=on"},
		}, []string{"q35"}},
		{"microvm", func(m *Machine) {
			m.Board = MicroVM
			m.Program = Console{Output: "/p.out"}
			m.Disks = []Disk{{Path: "/d", ReadOnly: true}}
			m.Nets = []Net{{Kind: NetUser, MAC: "52:00:00:00:00:00"}}
		}, [][]string{
			{"-device", "vhost-user-fs-device,chardev=store,tag=tvix,queue-size=1024"},
			{"-drive", "if=none,id=disk0,format=raw,file=/d,readonly=on", "-device", "virtio-blk-device,drive=disk0"},
			{"-device", "virtio-net-device,netdev=net0,mac=52:00:00:00:00:00"},
			{"-device", "virtio-serial-device"},
		}, []string{"-pci"}},
		{"memory", func(m *Machine) { m.MaxMemory, m.HugePages, m.Balloon = 2<<30, true, true }, [][]string{
			{"-m", "512M,maxmem=2G", "-object", "memory-backend-memfd,id=mem,size=512M,share=on,hugetlb=on"},
			{"-object", "memory-backend-memfd,id=more,size=1536M,share=on,reserve=off,hugetlb=on", "-device", "virtio-mem-pci,id=more-memory,memdev=more,requested-size=0"},
			{"-device", "virtio-balloon-pci,free-page-reporting=on"},
		}, nil},
		{"networks", func(m *Machine) {
			p, _ := ParsePort("8080:80")
			m.Nets = []Net{{Kind: NetUser, MAC: "m0", Publish: []Port{p}}, {Kind: NetTap, MAC: "m1", Interface: "tap0"}, {Kind: NetPasst, MAC: "m2", Socket: "/s"}}
		}, [][]string{
			{"-netdev", "user,id=net0,hostfwd=tcp:127.0.0.1:8080-:80", "-device", "virtio-net-pci,netdev=net0,mac=m0,romfile="},
			{"-netdev", "tap,id=net1,ifname=tap0,script=no,downscript=no"},
			{"-netdev", "stream,id=net2,server=off,addr.type=unix,addr.path=/s"},
		}, nil},
		{"shares, vsock, agent", func(m *Machine) {
			m.Shares = []Store{{Tag: "home", Socket: "/h", Queues: 1}}
			m.Vsock = &Vsock{CID: 7}
			m.Agent = true
		}, [][]string{
			{"-chardev", "socket,id=share0,path=/h", "-device", "vhost-user-fs-pci,chardev=share0,tag=home,queue-size=1024"},
			{"-device", "vhost-vsock-pci,guest-cid=7"},
			{"-device", "virtio-serial-pci", "-chardev", "socket,id=agent,fd=3", "-device", "virtserialport,chardev=agent,name=storeboot.agent"},
		}, nil},
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
			if c.Path != "/usr/bin/qemu" || len(c.Sockets) == 0 {
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
	all := *m
	all.Shares = []Store{{Tag: "home", Socket: "/h", Queues: 1}}
	all.Nets = []Net{{Kind: NetTap, Interface: "tap0", MAC: "m0"}, {Kind: NetPasst, Socket: "/p", MAC: "m1"}}
	all.Vsock, all.Agent = &Vsock{CID: 3, Socket: "/v"}, true
	all.MaxMemory, all.HugePages, all.Balloon = 1<<30, true, true
	all.Pins = [][]int{{2, 3}, {4}}
	if err := h.Check(&all); err != nil {
		t.Fatal(err)
	}
	checkArgs(t, h.Command(&all), [][]string{
		{"--memory", "size=512M,shared=on,hugepages=on,hotplug_method=virtio-mem,hotplug_size=512M"},
		{"--fs", "tag=tvix,socket=/run/s/store.sock,num_queues=2,queue_size=1024", "tag=home,socket=/h,num_queues=1,queue_size=1024"},
		{"--net", "tap=tap0,mac=m0", "vhost_user=on,socket=/p,mac=m1"},
		{"--vsock", "cid=3,socket=/v"},
		{"--cpus", "boot=2,affinity=[0@[2,3],1@[4]]"},
		{"--balloon", "size=0,deflate_on_oom=on,free_page_reporting=on"},
	}, []string{"mergeable"})

	for name, change := range map[string]func(*Machine){
		"needs KVM":    func(m *Machine) { m.Accel = TCG },
		"store queue":  func(m *Machine) { m.Store.Queues = 3 },
		"by vsock":     func(m *Machine) { m.Agent = true },
		"network of":   func(m *Machine) { m.Nets = []Net{{Kind: NetUser}} },
		"that is QEMU": func(m *Machine) { m.Board = Q35 },
		"typed":        func(m *Machine) { m.Program.Input = "/p.in" },
		"is pinned":    func(m *Machine) { m.Pins = make([][]int, 3) },
		"carry":        func(m *Machine) { m.Store.Socket = "/a,b" },
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
