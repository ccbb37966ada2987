package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"storeboot/internal/bootproto"
	"storeboot/internal/cli"
	"storeboot/launcher/session"
	"storeboot/launcher/share"
	"storeboot/launcher/vmm"
)

// devices are what the flags add to a machine.
type devices struct {
	shares    []share.Share
	nets      []vmm.Net
	ports     []vmm.Port
	maxMemory vmm.Size
	pin       []int   // of the whole VM, nil for none
	pins      [][]int // of each processor
}

// parseDevices checks the flags themselves.
func (o *machineOptions) parseDevices() (d devices, err error) {
	for _, s := range o.shares {
		x, err := share.Parse(s)
		if err != nil {
			return d, cli.Usagef("--share: %w", err)
		}
		d.shares = append(d.shares, x)
	}
	for _, s := range o.publish {
		p, err := vmm.ParsePort(s)
		if err != nil {
			return d, cli.Usagef("--publish: %w", err)
		}
		d.ports = append(d.ports, p)
	}
	nets := o.nets
	if len(nets) == 0 && len(d.ports) > 0 {
		nets = []string{string(vmm.NetUser)}
	}
	var seed [4]byte
	_, _ = rand.Read(seed[:]) // it never fails
	for i, s := range nets {
		n, err := vmm.ParseNet(s)
		if err != nil {
			return d, cli.Usagef("--net: %w", err)
		}
		if n.MAC == "" {
			n.MAC = vmm.MAC(seed, i)
		}
		if n.Kind != vmm.NetTap && len(d.ports) > 0 && n.Publish == nil {
			n.Publish, d.ports = d.ports, nil
		}
		d.nets = append(d.nets, n)
	}
	if len(d.ports) > 0 {
		return d, cli.Usagef("--publish needs --net user or passt: a tap interface's guest has an address of its own")
	}
	if o.maxMemory != "" {
		if d.maxMemory, err = vmm.ParseSize(o.maxMemory); err != nil {
			return d, cli.Usagef("--max-memory %s: %w", o.maxMemory, err)
		}
	}
	if o.pin != "" {
		if d.pin, d.pins, err = parsePin(o.pin); err != nil {
			return d, cli.Usagef("--pin %s: %w", o.pin, err)
		}
	}
	return d, nil
}

// maxHostCPU is the last processor that a CPU set can name.
const maxHostCPU = 1023

// parsePin reads a list of the host's processors for the whole VM, or one for each
// processor of the guest: 0@4,5,1@6-7.
func parsePin(s string) (all []int, each [][]int, err error) {
	if !strings.Contains(s, "@") {
		all, err = parseCPUs(s)
		return all, nil, err
	}
	at := -1
	for part := range strings.SplitSeq(s, ",") {
		if guest, host, ok := strings.Cut(part, "@"); ok {
			n, err := strconv.ParseUint(guest, 10, 16)
			if err != nil || n >= vmm.MaxCPUs {
				return nil, nil, fmt.Errorf("%q: want a processor of the guest and those of the host that it may run on, as 0@4", part)
			}
			at, part = int(n), host
		}
		if at < 0 {
			return nil, nil, fmt.Errorf("%q: want a processor of the guest before it, as 0@%s", part, part)
		}
		list, err := parseCPUs(part)
		if err != nil {
			return nil, nil, err
		}
		for len(each) <= at {
			each = append(each, nil)
		}
		each[at] = append(each[at], list...)
	}
	return nil, each, nil
}

// parseCPUs reads a list of processors as taskset(1) has it: 0-3,8.
func parseCPUs(s string) (list []int, err error) {
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.ParseUint(first, 10, 16)
		b := a
		if err == nil && isRange {
			b, err = strconv.ParseUint(last, 10, 16)
		}
		if err != nil || b < a || b > maxHostCPU {
			return nil, fmt.Errorf("%q: want processors as 0-3,8", part)
		}
		for n := a; n <= b; n++ {
			list = append(list, int(n))
		}
	}
	return list, nil
}

// needQEMU says what of the flags only QEMU can do.
func (d *devices) needQEMU() string {
	for _, n := range d.nets {
		if _, err := exec.LookPath("passt"); n.Kind == vmm.NetUser && err != nil {
			return "user-space network of its own, and there is no passt"
		}
	}
	return ""
}

// add puts the devices into the configuration of a session.
func (d *devices) add(ctx context.Context, o *machineOptions, config *session.Config) error {
	m := &config.Machine
	m.MaxMemory, m.Balloon, m.HugePages = d.maxMemory, o.balloon, o.hugePages
	config.Affinity, m.Pins = d.pin, d.pins
	if o.hugePages {
		if err := checkHugePages(m.Memory); err != nil {
			return err
		}
	}
	if o.vsock != 0 {
		m.Vsock = &vmm.Vsock{CID: o.vsock}
		if _, isQEMU := config.Hypervisor.(*vmm.QEMU); isQEMU {
			f, err := os.OpenFile("/dev/vhost-vsock", os.O_RDWR, 0)
			if err != nil {
				return fmt.Errorf("--vsock: %w (as root: modprobe vhost_vsock; cloud-hypervisor needs no such device)", err)
			}
			_ = f.Close()
		}
	}
	if err := d.addNets(config); err != nil {
		return err
	}
	return d.addShares(ctx, o, config)
}

func (d *devices) addNets(config *session.Config) error {
	for _, n := range d.nets {
		if n.Kind == vmm.NetUser && !config.Hypervisor.BootsAgain() {
			config.Machine.Nets = append(config.Machine.Nets, n)
			continue
		}
		if n.Kind == vmm.NetTap {
			if _, err := os.Stat("/sys/class/net/" + n.Interface); err != nil {
				return fmt.Errorf("--net tap=%s: there is no such interface (ip tuntap add dev %s mode tap user $USER)", n.Interface, n.Interface)
			}
			config.Machine.Nets = append(config.Machine.Nets, n)
			continue
		}
		passt, err := exec.LookPath("passt")
		if err != nil {
			return fmt.Errorf("--net %s: passt is not in $PATH: apt-get install passt, or use --vmm qemu --net user", n.Kind)
		}
		n.Kind, n.Socket = vmm.NetPasst, fmt.Sprintf("net%d.sock", len(config.Machine.Nets))
		publish, forCH := n.Publish, config.Hypervisor.BootsAgain()
		config.Helpers = append(config.Helpers, session.Helper{Name: "passt", Socket: n.Socket, Command: func(socket string) vmm.Command {
			return vmm.Command{Path: passt, Args: passtArgs(socket, publish, forCH)}
		}})
		config.Machine.Nets = append(config.Machine.Nets, n)
	}
	return nil
}

// passtArgs are passt's (passt(1)): nothing is published but what is said, and
// the guest does not reach the host's own services.
func passtArgs(socket string, publish []vmm.Port, vhostUser bool) []string {
	args := []string{"--foreground", "--quiet", "--one-off", "--socket", socket, "--no-map-gw"}
	if vhostUser {
		args = append(args, "--vhost-user")
	}
	list := map[string][]string{}
	for _, p := range publish {
		flag := "--tcp-ports"
		if p.UDP {
			flag = "--udp-ports"
		}
		spec := fmt.Sprintf("%d:%d", p.Host, p.Guest)
		if p.Address != netip.IPv4Unspecified() {
			spec = p.Address.String() + "/" + spec
		}
		list[flag] = append(list[flag], spec)
	}
	for _, flag := range []string{"--tcp-ports", "--udp-ports"} {
		if list[flag] == nil {
			args = append(args, flag, "none")
		}
		for _, spec := range list[flag] {
			args = append(args, flag, spec)
		}
	}
	return args
}

func (d *devices) addShares(ctx context.Context, o *machineOptions, config *session.Config) error {
	if len(d.shares) == 0 {
		return nil
	}
	daemon, err := share.FindDaemon(ctx, o.shareDaemon)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for i, s := range d.shares {
		if err := daemon.Check(s); err != nil {
			return fmt.Errorf("--share: %w", err)
		}
		name := fmt.Sprintf("share%d.sock", i)
		config.Helpers = append(config.Helpers, session.Helper{Name: "virtiofsd", Socket: name, Command: func(socket string) vmm.Command {
			return daemon.Command(s, socket, self)
		}})
		config.Machine.Shares = append(config.Machine.Shares, vmm.Store{Tag: s.Tag, Socket: name, Queues: 1})
	}
	return nil
}

// bootMounts are the mounts that init makes for the shares.
func (d *devices) bootMounts() (list []bootproto.Mount) {
	for _, s := range d.shares {
		list = append(list, s.BootMount())
	}
	return list
}

// modules are those that the devices need in the guest, as far as its kernel has
// them as modules.
func (d *devices) modules(m *vmm.Machine) (list []string) {
	add := func(want bool, name string) {
		if want {
			list = append(list, name+"?")
		}
	}
	add(m.Board == vmm.MicroVM, "virtio_mmio")
	add(len(m.Nets) > 0, "virtio_net")
	add(len(m.Disks) > 0, "virtio_blk")
	add(m.Vsock != nil, "vmw_vsock_virtio_transport")
	add(m.Balloon, "virtio_balloon")
	add(m.MaxMemory > 0, "virtio_mem")
	return list
}

const hugePageDir = "/sys/kernel/mm/hugepages/hugepages-2048kB"

// checkHugePages says whether the host has enough of them free: a guest that
// finds none dies of SIGBUS.
func checkHugePages(memory vmm.Size) error {
	text, err := os.ReadFile(hugePageDir + "/free_hugepages")
	if err != nil {
		return fmt.Errorf("--hugepages: this host has no huge pages of 2 MiB: %w", err)
	}
	free, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return fmt.Errorf("--hugepages: %w", err)
	}
	if want := uint64(memory) >> 21; free < want {
		return fmt.Errorf("--hugepages: %d are free, the guest's %s need %d (as root: sysctl vm.nr_hugepages=%d)", free, memory, want, want)
	}
	return nil
}
