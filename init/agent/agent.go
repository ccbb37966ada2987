package agent

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"storeboot/internal/bootproto"
)

// Name is the agent's argv[0].
const Name = "storeboot-agent"

// Main is the agent: args are the kind of its connection, and the device for a
// port. It returns when the connection ends.
func Main(args []string) error {
	conn, err := connect(args)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	return New(conn, powerOff).Serve()
}

func connect(args []string) (io.ReadWriter, error) {
	switch {
	case len(args) == 2 && args[0] == string(bootproto.AgentPort):
		return os.OpenFile(args[1], os.O_RDWR, 0)
	case len(args) == 1 && args[0] == string(bootproto.AgentVsock):
		fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, os.NewSyscallError("socket", err)
		}
		if err := unix.Connect(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_HOST, Port: bootproto.AgentVsockPort}); err != nil {
			return nil, os.NewSyscallError("connect to the host", err)
		}
		return os.NewFile(uintptr(fd), "vsock"), nil
	}
	return nil, fmt.Errorf("arguments %q", args)
}

// powerOff asks process 1 to power off: systemd by the signal that it has for
// that (systemd(1), SIGRTMIN+4), any other by that of a failing power supply,
// which our own init obeys, and by busybox' own.
func powerOff() {
	name, _ := os.ReadFile("/proc/1/comm")
	if strings.TrimSpace(string(name)) == "systemd" {
		const rtmin = 34 // of glibc, which reserves two
		_ = unix.Kill(1, unix.Signal(rtmin+4))
		return
	}
	_ = unix.Kill(1, unix.SIGPWR)
	_ = unix.Kill(1, unix.SIGUSR2)
}

// Agent serves one connection.
type Agent struct {
	conn     io.ReadWriter
	powerOff func()

	writing sync.Mutex // of conn
	mu      sync.Mutex
	streams map[uint32]*stream
}

// New makes an agent for a connection; powerOff asks the guest to power off.
func New(conn io.ReadWriter, powerOff func()) *Agent {
	return &Agent{conn: conn, powerOff: powerOff, streams: map[uint32]*stream{}}
}

// Serve obeys the launcher until the connection ends. Programs that run stay.
func (a *Agent) Serve() error {
	if err := a.send(bootproto.Frame{Type: bootproto.FrameHello}); err != nil {
		return err
	}
	for {
		f, err := bootproto.ReadFrame(a.conn)
		if err != nil {
			return err
		}
		a.take(f)
	}
}

func (a *Agent) send(f bootproto.Frame) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	return bootproto.WriteFrame(a.conn, f)
}

// take obeys one frame. It never waits for a program.
func (a *Agent) take(f bootproto.Frame) {
	switch f.Type {
	case bootproto.FrameStop:
		a.powerOff()
		return
	case bootproto.FrameExec:
		a.exec(f)
		return
	}
	a.mu.Lock()
	s := a.streams[f.Stream]
	a.mu.Unlock()
	if s == nil {
		return // it has ended meanwhile
	}
	switch f.Type {
	case bootproto.FrameStdin:
		s.input.put(f.Data)
	case bootproto.FrameTaken:
		s.credit.add(f.Taken())
	case bootproto.FrameResize:
		if rows, columns, ok := f.Size(); ok {
			s.resize(rows, columns)
		}
	case bootproto.FrameSignal:
		if len(f.Data) == 1 {
			s.signal(unix.Signal(f.Data[0]))
		}
	}
}

func (a *Agent) exec(f bootproto.Frame) {
	fail := func(status int, err error) {
		a.exit(f.Stream, bootproto.Report{Outcome: bootproto.OutcomeFailed, Status: status, Message: err.Error()})
	}
	spec, err := bootproto.ParseExecSpec(f.Data)
	if err != nil {
		fail(1, err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if f.Stream == 0 || a.streams[f.Stream] != nil || len(a.streams) >= bootproto.MaxStreams {
		fail(1, fmt.Errorf("stream %d cannot be used (%d of %d are)", f.Stream, len(a.streams), bootproto.MaxStreams))
		return
	}
	s, status, err := start(a, f.Stream, spec)
	if err != nil {
		fail(status, err)
		return
	}
	a.streams[f.Stream] = s
	go s.run()
}

// exit ends a stream.
func (a *Agent) exit(id uint32, r bootproto.Report) {
	r.Version = bootproto.SpecVersion
	data, err := r.Encode()
	if err == nil {
		_ = a.send(bootproto.Frame{Type: bootproto.FrameExit, Stream: id, Data: data})
	}
}
