package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"storeboot/internal/bootproto"
	"storeboot/launcher/vmm"
)

// Op is what a client wants.
type Op string

const (
	OpPowerOff Op = "power-off" // ask the guest to end in order
	OpKill     Op = "kill"      // end the VM at once
	OpExec     Op = "exec"      // run a program in the guest
	OpAttach   Op = "attach"    // see and type on its console
	OpResize   Op = "resize"    // change its memory
)

// Request is a client's first line.
type Request struct {
	Op     Op                  `json:"op"`
	Exec   *bootproto.ExecSpec `json:"exec,omitempty"`   // of OpExec
	Memory vmm.Size            `json:"memory,omitempty"` // of OpResize, in bytes
}

// Reply is the answer; an Error says that nothing was done.
type Reply struct {
	Error string `json:"error,omitempty"`
}

// VM is what a server serves.
type VM interface {
	PowerOff() error
	Kill()
	Resize(memory vmm.Size) error
	// Exec runs a program until it or the client ends.
	Exec(spec *bootproto.ExecSpec, client io.ReadWriter) error
}

const (
	// maxRequest is an exec with the longest arguments that a frame takes.
	maxRequest = 2 * bootproto.MaxFrame
	// requestLimit is how long a client may take to say what it wants.
	requestLimit = 10 * time.Second
)

// Server listens on a VM's control socket.
type Server struct {
	listener net.Listener
	vm       VM
	console  *Console // nil for none to attach to

	mu      sync.Mutex
	clients map[net.Conn]bool
	served  sync.WaitGroup
}

// Serve makes the socket at path and serves it until Close.
func Serve(path string, vm VM, console *Console) (*Server, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make control socket: %w", err)
	}
	s := &Server{listener: l, vm: vm, console: console, clients: map[net.Conn]bool{}}
	s.served.Go(s.accept)
	return s, nil
}

// Close ends all clients and removes the socket.
func (s *Server) Close() {
	_ = s.listener.Close()
	s.mu.Lock()
	for c := range s.clients {
		_ = c.Close()
	}
	s.clients = nil
	s.mu.Unlock()
	s.served.Wait()
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.clients == nil {
			_ = conn.Close()
		} else {
			s.clients[conn] = true
			s.served.Go(func() { s.serve(conn) })
		}
		s.mu.Unlock()
	}
}

func (s *Server) serve(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		s.mu.Lock()
		delete(s.clients, conn)
		s.mu.Unlock()
	}()
	_ = conn.SetReadDeadline(time.Now().Add(requestLimit))
	r := bufio.NewReaderSize(conn, maxRequest)
	line, err := r.ReadSlice('\n')
	if err != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	var req Request
	if err := json.Unmarshal(line, &req); err != nil {
		s.answer(conn, fmt.Errorf("request: %w", err))
		return
	}
	s.obey(&req, &client{r, conn})
}

// client reads through the buffer that may hold its first frames.
type client struct {
	io.Reader
	io.Writer
}

func (s *Server) answer(w io.Writer, err error) {
	var reply Reply
	if err != nil {
		reply.Error = err.Error()
	}
	if data, err := json.Marshal(reply); err == nil {
		_, _ = w.Write(append(data, '\n'))
	}
}

func (s *Server) obey(req *Request, c *client) {
	switch req.Op {
	case OpPowerOff:
		s.answer(c, s.vm.PowerOff())
	case OpKill:
		s.vm.Kill()
		s.answer(c, nil)
	case OpResize:
		s.answer(c, s.vm.Resize(req.Memory))
	case OpExec:
		if req.Exec == nil {
			s.answer(c, errors.New("exec of nothing"))
			return
		}
		// The answer has to come before the program's first frame, and an error
		// of the start is the program's exit.
		s.answer(c, nil)
		if err := s.vm.Exec(req.Exec, c); err != nil {
			sendFailure(c, err)
		}
	case OpAttach:
		if s.console == nil {
			s.answer(c, errors.New("this VM has no console to attach to (it belongs to a launcher in the foreground, or was started without -t)"))
			return
		}
		s.answer(c, nil)
		s.console.attach(c)
	default:
		s.answer(c, fmt.Errorf("no such request: %q", req.Op))
	}
}

// sendFailure tells a client of exec that there is no program.
func sendFailure(w io.Writer, err error) {
	data, jsonErr := json.Marshal(bootproto.Report{Version: bootproto.SpecVersion, Outcome: bootproto.OutcomeFailed, Status: 1, Message: err.Error()})
	if jsonErr == nil {
		_ = bootproto.WriteFrame(w, bootproto.Frame{Type: bootproto.FrameExit, Data: data})
	}
}
