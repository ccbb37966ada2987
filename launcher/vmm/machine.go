package vmm

import (
	"errors"
	"fmt"

	"storeboot/internal/bootproto"
)

// Accel is how the guest's instructions are executed.
type Accel string

const (
	KVM Accel = "kvm" // by the processor
	TCG Accel = "tcg" // by QEMU's translator, everywhere and slowly
)

// Limits of a [Machine].
const (
	// MaxCPUs is what QEMU's q35 takes without further options.
	MaxCPUs = 255
	// MinMemory is too little for most, but a small kernel with the smallest
	// initrd boots in it.
	MinMemory = 64 << 20
	// QueueSize is the number of descriptors of a store queue. It caps a read
	// at 1 MiB (256 pages), the most that a guest asks for; QEMU's default of
	// 128 caps it at 496 KiB.
	QueueSize = 1024
	// maxSocketPath is sizeof(sun_path) less the NUL byte (unix(7)).
	maxSocketPath = 107
	// maxCommandLine is COMMAND_LINE_SIZE of x86 and arm64 less the NUL byte.
	maxCommandLine = 2047
)

// Machine is a virtual machine. All paths are absolute. Its JSON has the names of
// the launcher's flags where there is one; sizes are in bytes.
type Machine struct {
	Arch   string `json:"arch"` // as GOARCH: amd64 or arm64
	Accel  Accel  `json:"accel"`
	CPUs   int    `json:"cpus"`   // 1 to MaxCPUs
	Memory Size   `json:"memory"` // bytes, whole MiB, at least MinMemory
	// Pins are the host's processors that each of the first processors of the
	// guest may run on; none for any.
	Pins   [][]int `json:"pin,omitempty"`
	Kernel string  `json:"kernel"`
	Initrd string  `json:"initrd,omitempty"`
	// CommandLine is the kernel's, at most 2047 bytes.
	CommandLine string `json:"cmdline"`
	Store       Store  `json:"store"`
	// Serial is the kernel's console; an empty one discards output.
	Serial Console `json:"serial"`
	// Program is the first virtio console, hvc0 in the guest; an empty one
	// leaves the device out.
	Program Console `json:"program"`
	// Stdin adds a virtio-serial port named bootproto.StdinPortName, whose other
	// end is a [SocketStdin]; Control likewise bootproto.ControlPortName.
	Stdin   bool `json:"stdin,omitempty"`
	Control bool `json:"control,omitempty"`
	// Stdout and Stderr are regular files that exist, whose end takes what the
	// guest writes to the ports of these names; "" for no such port.
	Stdout string `json:"stdout,omitempty"`
	Stderr string `json:"stderr,omitempty"`
	// Disks are virtio-blk devices, /dev/vda, /dev/vdb, ... in the guest.
	Disks []Disk `json:"disk,omitempty"`
	// Board is QEMU's machine type, "" for the usual one of the architecture.
	Board Board `json:"machine,omitempty"`
	// Shares are further virtio-fs devices; their queues are as the store's.
	Shares []Store `json:"share,omitempty"`
	// Nets are network devices, eth0, eth1, ... in the guest.
	Nets []Net `json:"net,omitempty"`
	// Vsock is the virtio-vsock device, nil for none.
	Vsock *Vsock `json:"vsock,omitempty"`
	// Agent connects bootproto's agent: with QEMU by a virtio-serial port whose
	// other end is a [SocketAgent], with cloud-hypervisor by Vsock.
	Agent bool `json:"agent,omitempty"`
	// HugePages takes the memory from the host's huge pages.
	HugePages bool `json:"hugepages,omitempty"`
	// MaxMemory is how much memory the guest may be given while it runs, by
	// virtio-mem; 0 for no more than Memory.
	MaxMemory Size `json:"max-memory,omitempty"`
	// Balloon adds a virtio-balloon device: the guest gives back what it does not
	// use, and what it is told to.
	Balloon bool `json:"balloon,omitempty"`
	// API is the path of cloud-hypervisor's API socket, "" for none.
	API string `json:"api-socket,omitempty"`
	// PVPanic adds the device by which the guest's kernel tells of its panic.
	PVPanic bool `json:"pvpanic,omitempty"`
}

// Board is a machine type of QEMU.
type Board string

const (
	Q35     Board = "q35"     // x86: PCI Express
	MicroVM Board = "microvm" // x86: virtio-mmio, no PCI; starts sooner
	Virt    Board = "virt"    // arm64
)

// Vsock is a virtio-vsock device.
type Vsock struct {
	CID    uint32 `json:"cid"`              // of the guest, 3 or more
	Socket string `json:"socket,omitempty"` // cloud-hypervisor's unix socket; QEMU has the host kernel's
}

// board is m's machine type.
func (m *Machine) board() Board {
	switch {
	case m.Board != "":
		return m.Board
	case m.Arch == "arm64":
		return Virt
	}
	return Q35
}

// checkBoard says whether the architecture has the machine type, and it the
// devices.
func (m *Machine) checkBoard() error {
	b := m.board()
	switch {
	case b != Q35 && b != MicroVM && b != Virt:
		return fmt.Errorf("machine type %q: there are q35, microvm and virt", b)
	case (b == Virt) != (m.Arch == "arm64"):
		return fmt.Errorf("machine type %s is not one of %s", b, m.Arch)
	case b == MicroVM && m.MaxMemory > m.Memory:
		return errors.New("microvm has no memory hot-plug (use --machine q35)")
	case b == MicroVM && len(m.Disks)+len(m.Nets)+len(m.Shares) > maxMicroVM:
		return fmt.Errorf("microvm has room for %d disks, networks and shares together (use --machine q35)", maxMicroVM)
	}
	return nil
}

// maxMicroVM leaves room among microvm's 8 virtio-mmio transports for the store,
// the consoles, the balloon and vsock.
const maxMicroVM = 4

// Disk is a raw image or a block device of the host.
type Disk struct {
	Path     string `json:"path"`
	ReadOnly bool   `json:"ro,omitempty"`
}

// Store is the virtio-fs device with the store.
type Store struct {
	Tag    string `json:"tag"`    // at most bootproto.MaxTag bytes
	Socket string `json:"socket"` // of the vhost-user back end, at most 107 bytes
	Queues int    `json:"queues"` // request queues, 1 to CPUs
}

// Console is a guest's terminal on the host. Output is a regular file that
// exists; what the guest writes goes to its end. Input is a FIFO, or empty for
// a console that nothing is typed into. For QEMU a console with Input is a
// pair PREFIX.in, PREFIX.out.
type Console struct {
	Output string `json:"output,omitempty"`
	Input  string `json:"input,omitempty"`
}

// Empty says that there is no such console.
func (c Console) Empty() bool { return c == Console{} }

// Check says whether every monitor's rules hold; those of one monitor are in
// its own Check.
func (m *Machine) Check() error {
	switch {
	case m.Arch != "amd64" && m.Arch != "arm64":
		return fmt.Errorf("guests of architecture %q are not supported (amd64 and arm64 are)", m.Arch)
	case m.Accel != KVM && m.Accel != TCG:
		return fmt.Errorf("accelerator %q is neither kvm nor tcg", m.Accel)
	case m.CPUs < 1 || m.CPUs > MaxCPUs:
		return fmt.Errorf("%d CPUs: want 1 to %d", m.CPUs, MaxCPUs)
	case len(m.Pins) > m.CPUs:
		return fmt.Errorf("processor %d of the guest is pinned, and it has %d", len(m.Pins)-1, m.CPUs)
	case m.Kernel == "":
		return errors.New("no kernel")
	case len(m.CommandLine) > maxCommandLine:
		return fmt.Errorf("kernel command line of %d bytes: the kernel takes %d", len(m.CommandLine), maxCommandLine)
	case m.Store.Tag == "" || len(m.Store.Tag) > bootproto.MaxTag:
		return fmt.Errorf("store tag %q: want 1 to %d bytes", m.Store.Tag, bootproto.MaxTag)
	case len(m.Store.Socket) > maxSocketPath:
		return fmt.Errorf("socket path %s has %d bytes: %d are possible", m.Store.Socket, len(m.Store.Socket), maxSocketPath)
	case m.Store.Queues < 1 || m.Store.Queues > m.CPUs:
		return fmt.Errorf("%d store queues for %d CPUs: want 1 for each at most", m.Store.Queues, m.CPUs)
	}
	if err := m.checkBoard(); err != nil {
		return err
	}
	if err := m.checkShares(); err != nil {
		return err
	}
	if m.MaxMemory != 0 && m.MaxMemory <= m.Memory {
		return fmt.Errorf("at most %s of memory, and %s at the start: want more at most", m.MaxMemory, m.Memory)
	}
	if m.MaxMemory%virtioMemBlock != 0 || m.MaxMemory != 0 && m.Memory%virtioMemBlock != 0 {
		return fmt.Errorf("memory of %s, %s at most: want multiples of %s", m.Memory, m.MaxMemory, Size(virtioMemBlock))
	}
	if v := m.Vsock; v != nil && (v.CID < minCID || v.CID == 1<<32-1) {
		return fmt.Errorf("vsock address %d: want %d or more", v.CID, minCID)
	}
	if m.HugePages && m.Memory%hugePage != 0 {
		return fmt.Errorf("memory of %s: want a multiple of the huge page's %s", m.Memory, Size(hugePage))
	}
	return m.Memory.check()
}

const (
	// minCID is the first vsock address of a guest (vsock(7)).
	minCID = 3
	// virtioMemBlock is the least that Linux takes and gives as one on x86 and
	// arm64 with pages of 4 KiB: a memory block.
	virtioMemBlock = 128 * mib
	// hugePage is the size of both architectures.
	hugePage = 2 * mib
)

// checkShares says whether the shares can be told apart.
func (m *Machine) checkShares() error {
	seen := map[string]bool{m.Store.Tag: true}
	for _, s := range m.Shares {
		switch {
		case s.Tag == "" || len(s.Tag) > bootproto.MaxTag:
			return fmt.Errorf("share tag %q has %d bytes: want 1 to %d", s.Tag, len(s.Tag), bootproto.MaxTag)
		case seen[s.Tag]:
			return fmt.Errorf("share tag %s is there twice (the store's is %s)", s.Tag, m.Store.Tag)
		case len(s.Socket) > maxSocketPath:
			return fmt.Errorf("socket path %s has %d bytes: %d are possible", s.Socket, len(s.Socket), maxSocketPath)
		}
		seen[s.Tag] = true
	}
	return nil
}
