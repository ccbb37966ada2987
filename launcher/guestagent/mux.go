// Package guestagent is the launcher's end of a guest's agent: one connection
// that any number of clients share, each for one program.
//
// The guest is not trusted: what it sends for a client is bounded by
// bootproto.AgentWindow, and for nobody is dropped.
package guestagent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"storeboot/internal/bootproto"
)

// Mux shares the agent's connection.
type Mux struct {
	conn io.ReadWriter

	hello   chan struct{} // closed when the agent has spoken
	done    chan struct{} // closed when the connection has ended
	writing sync.Mutex

	mu      sync.Mutex
	last    uint32
	streams map[uint32]*stream
}

// stream is one program of a client.
type stream struct {
	frames chan bootproto.Frame // room for a whole window of frames of any size
	gone   chan struct{}        // closed when the client is
}

// ErrNoAgent means that the guest's agent has not spoken, or has gone.
var ErrNoAgent = errors.New("the guest has no agent (it starts once the guest's program or system does)")

// New shares conn. The caller closes it.
func New(conn io.ReadWriter) *Mux {
	m := &Mux{conn: conn, hello: make(chan struct{}), done: make(chan struct{}), streams: map[uint32]*stream{}}
	go m.read()
	return m
}

// Ready is closed when the agent listens.
func (m *Mux) Ready() <-chan struct{} { return m.hello }

// Done is closed when the connection has ended.
func (m *Mux) Done() <-chan struct{} { return m.done }

func (m *Mux) read() {
	defer close(m.done)
	greeted := false
	for {
		f, err := bootproto.ReadFrame(m.conn)
		if err != nil {
			return
		}
		if f.Type == bootproto.FrameHello && !greeted {
			greeted = true
			close(m.hello)
			continue
		}
		m.pass(f)
	}
}

// pass hands a frame to its client. One whose client has gone, or that says more
// than it may, is answered as if it had been taken.
func (m *Mux) pass(f bootproto.Frame) {
	m.mu.Lock()
	s := m.streams[f.Stream]
	if f.Type == bootproto.FrameExit {
		delete(m.streams, f.Stream)
	}
	m.mu.Unlock()
	if s == nil {
		return
	}
	select {
	case <-s.gone:
	default:
		select {
		case s.frames <- f:
			return
		default:
		}
	}
	if (f.Type == bootproto.FrameStdout || f.Type == bootproto.FrameStderr) && len(f.Data) > 0 {
		go m.send(bootproto.TakenFrame(f.Stream, len(f.Data)))
	}
}

func (m *Mux) send(f bootproto.Frame) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	return bootproto.WriteFrame(m.conn, f)
}

// Stop asks the guest to power off in order.
func (m *Mux) Stop() error {
	select {
	case <-m.hello:
	default:
		return ErrNoAgent
	}
	return m.send(bootproto.Frame{Type: bootproto.FrameStop})
}

// Exec runs a program for a client, with which it exchanges the frames of one
// stream, whatever its number is there, until the program or the client ends. A
// client that goes leaves the program a hang-up.
func (m *Mux) Exec(spec *bootproto.ExecSpec, client io.ReadWriter) error {
	select {
	case <-m.hello:
	default:
		return ErrNoAgent
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	// Frames of one byte each would need more; then the oldest rule of pass holds.
	s := &stream{frames: make(chan bootproto.Frame, 4096), gone: make(chan struct{})}
	m.mu.Lock()
	if len(m.streams) >= bootproto.MaxStreams {
		m.mu.Unlock()
		return fmt.Errorf("%d programs run by exec already", bootproto.MaxStreams)
	}
	m.last++
	id := m.last
	m.streams[id] = s
	m.mu.Unlock()
	if err := m.send(bootproto.Frame{Type: bootproto.FrameExec, Stream: id, Data: data}); err != nil {
		return err
	}
	go func() {
		defer close(s.gone)
		for {
			f, err := bootproto.ReadFrame(client)
			if err != nil {
				m.abandon(id)
				return
			}
			switch f.Type {
			case bootproto.FrameStdin, bootproto.FrameTaken, bootproto.FrameResize, bootproto.FrameSignal:
				f.Stream = id
				if m.send(f) != nil {
					return
				}
			}
		}
	}()
	for {
		select {
		case f := <-s.frames:
			if err := bootproto.WriteFrame(client, f); err != nil || f.Type == bootproto.FrameExit {
				return err
			}
		case <-s.gone:
			return nil
		case <-m.done:
			return errors.New("the VM ended")
		}
	}
}

// abandon ends a program whose client has gone. What it still writes is dropped.
func (m *Mux) abandon(id uint32) {
	m.mu.Lock()
	_, runs := m.streams[id]
	m.mu.Unlock()
	if !runs {
		return
	}
	_ = m.send(bootproto.Frame{Type: bootproto.FrameStdin, Stream: id})
	_ = m.send(bootproto.Frame{Type: bootproto.FrameSignal, Stream: id, Data: []byte{byte(unix.SIGHUP)}})
	_ = m.send(bootproto.TakenFrame(id, bootproto.AgentWindow))
}
