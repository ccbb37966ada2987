package vmm

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Command is a process to start.
type Command struct {
	Path string
	Args []string // without the program's name
	// Sockets are connected unix stream sockets that the process gets as its
	// descriptors from 3 on.
	Sockets []Socket
}

// Socket says what the launcher's end of a socket is for.
type Socket string

const (
	SocketMonitor Socket = "monitor" // for [Hypervisor.Monitor]
	SocketStdin   Socket = "stdin"   // the program's input, and its end
	SocketControl Socket = "control" // for lines of bootproto.Control
	SocketAgent   Socket = "agent"   // for frames of bootproto
)

// Words are the program and its arguments.
func (c Command) Words() []string { return append([]string{c.Path}, c.Args...) }

// String is the command as a shell takes it.
func (c Command) String() string {
	words := []string{quote(c.Path)}
	for _, a := range c.Args {
		words = append(words, quote(a))
	}
	return strings.Join(words, " ")
}

// End is how a guest ended, as its monitor saw it.
type End string

const (
	EndUnknown  End = ""          // the monitor did not say
	EndPowerOff End = "power-off" // the guest switched itself off
	EndReset    End = "reset"     // the guest, or a triple fault, reset it
	EndPanic    End = "panic"     // the guest's kernel said so
	EndStopped  End = "stopped"   // the monitor was told to end, not by the guest
)

// Hypervisor is a virtual machine monitor.
type Hypervisor interface {
	// Name is the monitor's name for people and for the --vmm flag.
	Name() string
	// Check says whether the monitor can run m: [Machine.Check] and the
	// monitor's own rules. The error names the rule and the way out.
	Check(m *Machine) error
	// Command is the process that runs m, which has passed Check.
	Command(m *Machine) Command
	// BootsAgain says that the process boots the guest again after a reset,
	// unless it is killed.
	BootsAgain() bool
	// Monitor reads the monitor's events from conn until it ends or breaks,
	// which it does when the process ends, and calls ended for each event that
	// says that the guest has ended: the last one counts. It writes to conn
	// only to begin the conversation.
	Monitor(conn io.ReadWriter, ended func(End)) error
	// PowerButton presses the guest's: it is asked to power off. conn is that of
	// Monitor, which runs.
	PowerButton(conn io.Writer, m *Machine) error
	// Threads are the host's threads of the guest's processors, for
	// Machine.Pins; none if the monitor's process pins them itself.
	Threads(conn io.Writer) ([]int, error)
	// Resize gives the guest that much memory: more than Machine.Memory by
	// virtio-mem, less by its balloon. The guest does it in its own time.
	Resize(conn io.Writer, m *Machine, memory Size) error
}

// replyLimit is how long a monitor may take to answer.
const replyLimit = 10 * time.Second

// checkResize says whether m has the device that the change needs.
func checkResize(m *Machine, memory Size) error {
	switch {
	case memory > m.Memory && memory > m.MaxMemory:
		return fmt.Errorf("the guest can have %s at most: it was started without a larger --max-memory", max(m.Memory, m.MaxMemory))
	case memory < m.Memory && !m.Balloon:
		return fmt.Errorf("the guest cannot give back any of its %s: it was started without --balloon", m.Memory)
	case memory > m.Memory && (memory-m.Memory)%virtioMemBlock != 0:
		return fmt.Errorf("memory of %s: want %s and a multiple of %s", memory, m.Memory, Size(virtioMemBlock))
	}
	return memory.check()
}

// firstFD is the descriptor of the first of Command.Sockets in the monitor's
// process: the first after the standard three.
const firstFD = 3

// maxEvent bounds one event of a monitor, in bytes.
const maxEvent = 1 << 20

// quote makes s one word of a POSIX shell.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("@%+=:,./_-", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Readable says whether the file can be opened, as the monitor will have to.
func Readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}
