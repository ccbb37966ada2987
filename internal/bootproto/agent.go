package bootproto

import (
	"encoding/binary"
	"fmt"
	"io"
)

// AgentKind is how the agent of a guest and the launcher are connected.
type AgentKind string

const (
	// AgentPort is the virtio-serial port named AgentPortName.
	AgentPort AgentKind = "port"
	// AgentVsock is a vsock connection that the agent makes to the host
	// (address 2), to AgentVsockPort.
	AgentVsock AgentKind = "vsock"
)

// Names of the agent's connection.
const (
	AgentPortName  = "storeboot.agent"
	AgentVsockPort = 1024
)

// The agent runs further programs in a guest. It and the launcher exchange
// frames: a header of 12 bytes, little endian (type, 32 bits; stream, 32 bits;
// length, 32 bits), and length bytes. The launcher numbers the streams, one for
// each program, from 1; stream 0 is the guest as a whole.
//
// Neither side sends more than AgentWindow bytes of one direction of a stream
// beyond those that the other has taken and said so by FrameTaken: a slow reader
// stops its own stream and no other.
type Frame struct {
	Type   FrameType
	Stream uint32
	Data   []byte
}

// FrameType says what a frame is.
type FrameType uint32

const (
	// FrameHello is the agent's first: it listens. Stream 0.
	FrameHello FrameType = iota + 1
	// FrameExec starts a program: an [ExecSpec] as JSON.
	FrameExec
	// FrameStdin is input of the program; none at all is its end.
	FrameStdin
	// FrameStdout and FrameStderr are output; none at all is its end.
	FrameStdout
	FrameStderr
	// FrameTaken says that so many bytes (32 bits) of FrameStdin, or of FrameStdout
	// and FrameStderr together, have been taken.
	FrameTaken
	// FrameResize is the new size of the program's terminal: rows, columns, 16
	// bits each.
	FrameResize
	// FrameSignal sends a signal (8 bits) to the program's process group.
	FrameSignal
	// FrameExit is the last of a stream: a [Report] as JSON, of OutcomeExited,
	// OutcomeSignaled or OutcomeFailed.
	FrameExit
	// FrameStop asks the whole guest to power off in order. Stream 0.
	FrameStop
	frameEnd
)

// Limits of frames.
const (
	frameHeader = 12
	// MaxFrame is the most data of a frame, in bytes.
	MaxFrame = 64 << 10
	// AgentWindow is in bytes.
	AgentWindow = 256 << 10
	// MaxStreams is how many programs of an agent may run at once.
	MaxStreams = 256
)

// WriteFrame writes f in one write.
func WriteFrame(w io.Writer, f Frame) error {
	if len(f.Data) > MaxFrame {
		return fmt.Errorf("agent frame of %d bytes: at most %d are possible", len(f.Data), MaxFrame)
	}
	b := make([]byte, frameHeader, frameHeader+len(f.Data))
	binary.LittleEndian.PutUint32(b[0:], uint32(f.Type))
	binary.LittleEndian.PutUint32(b[4:], f.Stream)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(f.Data)))
	_, err := w.Write(append(b, f.Data...))
	return err
}

// ReadFrame reads one frame. The end of r between frames is io.EOF, within one
// io.ErrUnexpectedEOF.
func ReadFrame(r io.Reader) (Frame, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{Type: FrameType(binary.LittleEndian.Uint32(head[0:])), Stream: binary.LittleEndian.Uint32(head[4:])}
	n := binary.LittleEndian.Uint32(head[8:])
	switch {
	case f.Type == 0 || f.Type >= frameEnd:
		return Frame{}, fmt.Errorf("agent frame of unknown type %d", f.Type)
	case n > MaxFrame:
		return Frame{}, fmt.Errorf("agent frame of %d bytes: at most %d are possible", n, MaxFrame)
	}
	f.Data = make([]byte, n)
	if _, err := io.ReadFull(r, f.Data); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	return f, nil
}

// TakenFrame says that n bytes were taken.
func TakenFrame(stream uint32, n int) Frame {
	return Frame{FrameTaken, stream, binary.LittleEndian.AppendUint32(nil, uint32(n))}
}

// Taken is the number of a FrameTaken, 0 if it is none.
func (f Frame) Taken() int {
	if f.Type != FrameTaken || len(f.Data) != 4 {
		return 0
	}
	return int(min(binary.LittleEndian.Uint32(f.Data), AgentWindow))
}

// ResizeFrame tells of a terminal's new size.
func ResizeFrame(stream uint32, rows, columns int) Frame {
	data := binary.LittleEndian.AppendUint16(nil, uint16(rows))
	return Frame{FrameResize, stream, binary.LittleEndian.AppendUint16(data, uint16(columns))}
}

// Size is the size of a FrameResize; ok is false if it is none.
func (f Frame) Size() (rows, columns uint16, ok bool) {
	if f.Type != FrameResize || len(f.Data) != 4 {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint16(f.Data), binary.LittleEndian.Uint16(f.Data[2:]), true
}

// ExecSpec is a program that the agent is to run.
type ExecSpec struct {
	Version int      `json:"version"`
	Argv    []string `json:"argv"`          // Argv[0] is a path, or a name to look for in PATH
	Env     []string `json:"env,omitempty"` // KEY=VALUE, over the agent's own
	Dir     string   `json:"dir,omitempty"` // working directory, default /
	// Terminal gives it a pseudo-terminal of that size; its output is then
	// FrameStdout alone.
	Terminal bool  `json:"terminal,omitempty"`
	Rows     int   `json:"rows,omitempty"`
	Columns  int   `json:"columns,omitempty"`
	User     *User `json:"user,omitempty"`
}

// ParseExecSpec parses and checks data; unknown keys are errors.
func ParseExecSpec(data []byte) (*ExecSpec, error) {
	s := new(ExecSpec)
	if err := parse(data, s.read); err != nil {
		return nil, fmt.Errorf("exec specification: %w", err)
	}
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("exec specification: %w", err)
	}
	return s, nil
}

// Check says whether s is complete and sound.
func (s *ExecSpec) Check() error {
	if err := checkVersion(s.Version); err != nil {
		return err
	}
	if len(s.Argv) == 0 || s.Argv[0] == "" {
		return fmt.Errorf("argv: empty")
	}
	if s.Dir != "" && !cleanAbs(s.Dir) {
		return fmt.Errorf("dir %q: want an absolute path", s.Dir)
	}
	if err := checkSize(s.Rows, s.Columns); err != nil {
		return err
	}
	return checkEnv(s.Env)
}
