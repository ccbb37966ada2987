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

// Machine is a virtual machine. All paths are absolute.
type Machine struct {
	Arch   string // as GOARCH: amd64 or arm64
	Accel  Accel
	CPUs   int  // 1 to MaxCPUs
	Memory Size // bytes, whole MiB, at least MinMemory
	Kernel string
	Initrd string
	// CommandLine is the kernel's, at most 2047 bytes.
	CommandLine string
	Store       Store
	// Serial is the kernel's console; an empty one discards output.
	Serial Console
	// Program is the first virtio console, hvc0 in the guest; an empty one
	// leaves the device out.
	Program Console
	// Stdin adds a virtio-serial port named bootproto.StdinPortName, whose other
	// end is [Command.Stdin]'s socket. It needs Program, whose device it shares.
	Stdin bool
	// Disks are virtio-blk devices, /dev/vda, /dev/vdb, ... in the guest.
	Disks []Disk
}

// Disk is a raw image or a block device of the host.
type Disk struct {
	Path     string
	ReadOnly bool
}

// Store is the virtio-fs device with the store.
type Store struct {
	Tag    string // at most bootproto.MaxTag bytes
	Socket string // of the vhost-user back end, at most 107 bytes
	Queues int    // request queues, 1 to CPUs
}

// Console is a guest's terminal on the host. Output is a regular file that
// exists; what the guest writes goes to its end. Input is a FIFO, or empty for
// a console that nothing is typed into. For QEMU a console with Input is a
// pair PREFIX.in, PREFIX.out.
type Console struct {
	Output string
	Input  string
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
	case m.Kernel == "":
		return errors.New("no kernel")
	case m.Stdin && m.Program.Empty():
		return errors.New("a port for the program's input without a console for its output")
	case len(m.CommandLine) > maxCommandLine:
		return fmt.Errorf("kernel command line of %d bytes: the kernel takes %d", len(m.CommandLine), maxCommandLine)
	case m.Store.Tag == "" || len(m.Store.Tag) > bootproto.MaxTag:
		return fmt.Errorf("store tag %q: want 1 to %d bytes", m.Store.Tag, bootproto.MaxTag)
	case len(m.Store.Socket) > maxSocketPath:
		return fmt.Errorf("socket path %s has %d bytes: %d are possible", m.Store.Socket, len(m.Store.Socket), maxSocketPath)
	case m.Store.Queues < 1 || m.Store.Queues > m.CPUs:
		return fmt.Errorf("%d store queues for %d CPUs: want 1 for each at most", m.Store.Queues, m.CPUs)
	}
	return m.Memory.check()
}
