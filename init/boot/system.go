package boot

import (
	"fmt"
	"io"
	"time"

	"storeboot/internal/bootproto"
)

// System is the machine as the plan sees it. All paths are absolute. Errors of
// the kernel are a syscall.Errno somewhere in the chain.
type System interface {
	// Mkdir makes one directory; an existing one is no error.
	Mkdir(path string, mode uint32) error
	// Symlink makes a link at path; an existing one is replaced.
	Symlink(target, path string) error
	// ReadFile returns the whole file, which may have at most maxFile bytes.
	ReadFile(path string) ([]byte, error)
	// WriteFile writes to an existing file, in one write.
	WriteFile(path, text string) error
	// CreateFile makes a file with the text; one that exists stays as it is.
	CreateFile(path, text string) error
	// Remove deletes a file or a symbolic link; none is no error.
	Remove(path string) error
	// Open opens a file or a disk for reading at any place.
	Open(path string) (File, error)
	// Stat follows symbolic links.
	Stat(path string) (Stat, error)
	// Glob returns the paths that match, sorted; none if nothing does.
	Glob(pattern string) []string
	// Resolve returns path with all symbolic links followed as if root were
	// "/", without root before it.
	Resolve(root, path string) (string, error)

	// Release is the kernel's release, as uname -r prints it.
	Release() string
	// CPUs is how many processors there are.
	CPUs() int
	// Mount is mount(2).
	Mount(source, target, fstype string, flags uintptr, data string) error
	// AttachLoop makes a read-only disk of the file at path, and returns its
	// device.
	AttachLoop(path string) (device string, err error)
	// LoadModule is finit_module(2) with the file at path. It may be called by
	// several goroutines at once.
	LoadModule(path, options string) error
	// Elapsed is the time since the kernel started.
	Elapsed() time.Duration
	// WaitDevice waits until something happens to a device, at most limit, and
	// returns the aliases that ask for modules. lost says that there may be more,
	// which only a look at all devices finds: so does the first call, at once.
	WaitDevice(limit time.Duration) (aliases []string, lost bool)
	// Now is the time of day.
	Now() time.Time
	// Environ is the environment that the kernel gave us.
	Environ() []string
	// LoopbackUp sets the network device lo up. A kernel without a network is no
	// error.
	LoopbackUp() error
	// WatchPowerButton begins to take note of the power buttons that there are.
	WatchPowerButton()
	// Stopped says why the machine is to be powered off (a signal, its power
	// button), "" as long as it is not. Programs are ended without our doing.
	Stopped() string

	// OpenKernelLog opens /dev/kmsg.
	OpenKernelLog() (io.Writer, error)
	// OpenTerminal opens the console device at path.
	OpenTerminal(path string) (Terminal, error)
	// OpenStore opens the root of the store mount.
	OpenStore(path string) (Store, error)
	// List writes the path of everything at and below root to w, one a line,
	// as it is.
	List(root string, w io.Writer) error

	// Start starts a program and returns its process id.
	Start(*Program) (int, error)
	// Wait waits for the end of any process that is PID 1's to reap.
	Wait() (pid int, status ExitStatus, err error)
	// KillAfter ends the process pid, a child, when limit is over. done tells it
	// that the process has ended, and returns whether it was killed for this.
	KillAfter(pid int, limit time.Duration) (done func() bool)
	// DrainOutput waits, no longer than limit, until the output of the last
	// program with a Log or a port was passed on to its end.
	DrainOutput(limit time.Duration)
	// Process is the process pid, a child that was not reaped yet.
	Process(pid int) (Process, error)
	// Lines gives each line that the device at path sends to f, in another
	// goroutine, until the device ends.
	Lines(path string, f func(line string)) error
	// StartAgent starts the agent with these arguments, in a session of its own.
	StartAgent(args []string) error
	// EndProcesses ends every process but this one, within a bounded time.
	EndProcesses()
	// MemoryFile makes a nameless file with the text, which a program that is
	// executed inherits as the descriptor that is returned.
	MemoryFile(name, text string) (int, error)
	// SwitchRoot makes the mount at root the root directory, and deletes what
	// the initramfs held. It cannot be undone.
	SwitchRoot(root string) error
	// Exec becomes another program, with the console as its three streams. It
	// returns only an error.
	Exec(path string, argv, env []string) error
	// PowerOff powers the machine off and does not return.
	PowerOff()
	// Restart restarts the machine and does not return.
	Restart()
}

// maxFile bounds what ReadFile reads. Specifications are the largest: the
// arguments and environment that exec takes are at most 6 MiB (Linux,
// fs/exec.c: three quarters of _STK_LIM).
const maxFile = 16 << 20

// File is an open file.
type File interface {
	io.ReaderAt
	io.Closer
}

// Stat is what the plan asks about a file.
type Stat struct {
	Mode uint32 // as in stat(2): type and permissions
	Dev  uint64 // device number of the file system
}

// Store is the open root of the store mount.
type Store interface {
	// Report hands the encoded report to the store daemon. A daemon that does
	// not know it is an error.
	Report(report []byte) error
}

// Process is a process whose number may be another's once it has ended.
type Process interface {
	// Signal sends a signal; ESRCH says that the process has ended.
	Signal(signal int) error
	Close() error
}

// Terminal is a console device; it need not be a terminal.
type Terminal interface {
	io.Writer
	// Raw lets bytes pass unchanged both ways. On what is no terminal it does
	// nothing.
	Raw() error
	// Cooked sets line mode with echo, and the size if it is not 0 by 0.
	Cooked(rows, columns int) error
	// Resize sets the size, which the programs on it hear of.
	Resize(rows, columns int) error
	// TakeControl makes it the controlling terminal of this session.
	TakeControl() error
	// Drain waits until everything written has left the machine.
	Drain() error
	// Restore drains, and puts back the settings that were found.
	Restore() error
}

// Program is a process to start.
type Program struct {
	Argv []string // Argv[0] is the path too
	Env  []string
	Dir  string
	// Terminal is standard output and error, and standard input unless Input
	// names a file or device for it.
	Terminal Terminal
	Input    string
	// Stdout and Stderr name devices that take the program's output instead of
	// Terminal. It is written through a pipe: the device can be opened once, and
	// what a program does to its output must not be done to the device.
	Stdout, Stderr string
	// Session gives the program a session of its own, without a terminal.
	// Otherwise it is in that of PID 1.
	Session bool
	// Root is the program's root directory, "" for our own. Argv[0] and Dir are
	// in it.
	Root string
	// Log takes each line of the program's output; then there is no Terminal.
	// Another goroutine calls it.
	Log func(line string)
	// User is whom the program runs as, nil for root.
	User *bootproto.User
}

// ExitStatus is how a process ended: Signal is not 0 if a signal ended it.
type ExitStatus struct {
	Code   int
	Signal int
}

func (s ExitStatus) String() string {
	if s.Signal != 0 {
		return fmt.Sprintf("ended by signal %d", s.Signal)
	}
	return fmt.Sprintf("exit status %d", s.Code)
}

// report makes the report of a program that ended so.
func (s ExitStatus) report() bootproto.Report {
	if s.Signal != 0 {
		return bootproto.Report{Outcome: bootproto.OutcomeSignaled, Signal: s.Signal}
	}
	return bootproto.Report{Outcome: bootproto.OutcomeExited, Status: s.Code}
}
