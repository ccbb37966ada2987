package vmm

import (
	"io"
	"os"
	"strings"
)

// Command is a process to start.
type Command struct {
	Path string
	Args []string // without the program's name
	// Monitor says that descriptor 3 has to be one end of a connected unix
	// stream socket, whose other end goes to [Hypervisor.Monitor].
	Monitor bool
	// Stdin says the same of descriptor 4: what is written to the other end is
	// the guest's program's to read, and its end is the input's.
	Stdin bool
}

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
}

// monitorFD is the descriptor of Command.Monitor in the monitor's process: the
// first after the standard three.
const monitorFD = "3"

// stdinFD is that of Command.Stdin.
const stdinFD = "4"

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
