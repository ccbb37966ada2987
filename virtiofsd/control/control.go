package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// MaxMessage bounds a request and an answer, in bytes.
	MaxMessage = 4 << 20
	// MaxFDs is the most descriptors of a request: the listening socket, and for
	// OpAttach one more to which events are written.
	MaxFDs = 2
	// Wait is how long either side waits for the other to send a message that is
	// due.
	Wait = 30 * time.Second
)

// Operations.
const (
	// OpCreate makes a socket that stays until it is removed. The descriptor is
	// the listening socket.
	OpCreate = "create"
	// OpAttach makes a socket that stays as long as the connection. A second
	// descriptor, if there is one, gets the events (bootproto.Event).
	OpAttach = "attach"
	OpList   = "list"
	OpRemove = "remove"
)

// Request is what a client wants.
type Request struct {
	Op string `json:"op"`
	// Store says which store the client means; another one is refused. It may be
	// empty but for OpAttach.
	Store  string  `json:"store,omitempty"`
	Socket *Socket `json:"socket,omitempty"` // of OpCreate, OpAttach; for OpRemove its name or path
	// Require are store paths that have to be there.
	Require []string `json:"require,omitempty"`
}

// Socket is a vhost-user socket and what its guests see.
type Socket struct {
	Name string `json:"name"`           // one of a kind; "" in a request: the daemon chooses
	Path string `json:"path,omitempty"` // for people; removed with the socket if it can be
	Tag  string `json:"tag,omitempty"`  // that the VMM is to give the file system, for people
	// Closure, Xattr and RootTTL are those of 'virtiofsd serve'.
	Closure []string      `json:"closure,omitempty"`
	Xattr   bool          `json:"xattr,omitempty"`
	RootTTL time.Duration `json:"rootTTL,omitempty"`
	// MaxConnections is how many VMMs may be connected at once; 0: any number.
	MaxConnections int `json:"maxConnections,omitempty"`
	// Once ends the socket after the first VMM has gone.
	Once bool `json:"once,omitempty"`

	// In answers:
	Connections int64     `json:"connections"`
	Requests    uint64    `json:"requests"`
	ReadBytes   uint64    `json:"readBytes"`
	Created     time.Time `json:"created,omitzero"`
}

// Answer is what came of a request.
type Answer struct {
	Error   string   `json:"error,omitempty"`
	Sockets []Socket `json:"sockets,omitempty"`
}

// Dial connects to a daemon.
func Dial(path string) (*net.UnixConn, error) {
	return net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
}

// Do sends a request with descriptors and returns the answer. An error that the
// daemon answers with is an [*Error].
func Do(c *net.UnixConn, r *Request, files ...*os.File) (*Answer, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	var fds []int
	for _, f := range files {
		fd, err := rawFD(f)
		if err != nil {
			return nil, err
		}
		fds = append(fds, fd)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if err := c.SetDeadline(time.Now().Add(Wait)); err != nil {
		return nil, err
	}
	defer c.SetDeadline(time.Time{})
	b = append(b, '\n')
	n, _, err := c.WriteMsgUnix(b, oob, nil)
	if err == nil && n < len(b) { // the descriptors went with the first part
		_, err = c.Write(b[n:])
	}
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	line, err := readLine(bufio.NewReader(c))
	if err != nil {
		return nil, fmt.Errorf("answer of the daemon: %w", err)
	}
	var a Answer
	if err := json.Unmarshal(line, &a); err != nil {
		return nil, fmt.Errorf("answer of the daemon: %w", err)
	}
	if a.Error != "" {
		return nil, &Error{a.Error}
	}
	return &a, nil
}

// rawFD is the descriptor of f, which Fd would make a blocking one, also for all
// who share it.
func rawFD(f *os.File) (fd int, err error) {
	c, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	err = c.Control(func(n uintptr) { fd = int(n) })
	return fd, err
}

// Error is why a daemon does not do what it was asked.
type Error struct{ Text string }

func (e *Error) Error() string { return e.Text }

// Receive reads the one request of a connection. The files are the caller's to
// close, also beside an error.
func Receive(c *net.UnixConn) (r *Request, files []*os.File, err error) {
	if err := c.SetReadDeadline(time.Now().Add(Wait)); err != nil {
		return nil, nil, err
	}
	defer c.SetReadDeadline(time.Time{})
	buf := make([]byte, 64<<10)
	oob := make([]byte, unix.CmsgSpace(4*16))
	n, k, flags, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, nil, err
	}
	if messages, err := unix.ParseSocketControlMessage(oob[:k]); err == nil {
		for _, m := range messages {
			fds, err := unix.ParseUnixRights(&m)
			if err != nil {
				continue
			}
			for _, fd := range fds {
				unix.CloseOnExec(fd)
				files = append(files, os.NewFile(uintptr(fd), "passed descriptor"))
			}
		}
	}
	if flags&unix.MSG_CTRUNC != 0 || len(files) > MaxFDs {
		return nil, files, errors.New("too many descriptors")
	}
	line, err := readLine(bufio.NewReader(io.MultiReader(bytes.NewReader(buf[:n]), c)))
	if err != nil {
		return nil, files, err
	}
	r = new(Request)
	if err := json.Unmarshal(line, r); err != nil {
		return nil, files, fmt.Errorf("request: %w", err)
	}
	return r, files, nil
}

// Send sends an answer.
func Send(c *net.UnixConn, a *Answer) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if err := c.SetWriteDeadline(time.Now().Add(Wait)); err != nil {
		return err
	}
	_, err = c.Write(append(b, '\n'))
	return err
}

// readLine reads a line of at most MaxMessage bytes.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > MaxMessage:
			return nil, fmt.Errorf("longer than %d bytes", MaxMessage)
		case err == nil:
			return line, nil
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}
