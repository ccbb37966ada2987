package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"storeboot/internal/bootproto"
)

// Conn is a client's connection after its request was granted.
type Conn struct {
	conn    net.Conn
	r       *bufio.Reader
	writing sync.Mutex
	credit  chan int // bytes of input that the other side has taken
}

// Do asks the VM whose control socket is at path. The connection is for exec and
// attach; otherwise it is to be closed.
func Do(path string, req Request) (*Conn, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("speak to the VM's launcher: %w", err)
	}
	data, err := json.Marshal(req)
	if err == nil && len(data) >= maxRequest {
		err = fmt.Errorf("a request of %d bytes: %d are possible", len(data), maxRequest)
	}
	if err == nil {
		_, err = conn.Write(append(data, '\n'))
	}
	c := &Conn{conn: conn, r: bufio.NewReader(conn), credit: make(chan int, 1024)}
	var reply Reply
	if err == nil {
		var line []byte
		if line, err = c.r.ReadBytes('\n'); err == nil {
			err = json.Unmarshal(line, &reply)
		}
	}
	if err == nil && reply.Error != "" {
		err = errors.New(reply.Error)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the connection.
func (c *Conn) Close() error { return c.conn.Close() }

func (c *Conn) send(f bootproto.Frame) error {
	f.Stream = 1
	c.writing.Lock()
	defer c.writing.Unlock()
	return bootproto.WriteFrame(c.conn, f)
}

// Resize tells of the terminal's size.
func (c *Conn) Resize(rows, columns int) error {
	return c.send(bootproto.ResizeFrame(1, rows, columns))
}

// Signal sends the program a signal.
func (c *Conn) Signal(n int) error {
	return c.send(bootproto.Frame{Type: bootproto.FrameSignal, Data: []byte{byte(n)}})
}

// Send passes on what in holds, and its end. With window no more is under way
// than the other side takes.
func (c *Conn) Send(in io.Reader, window bool) error {
	buf := make([]byte, 32<<10)
	left := bootproto.AgentWindow
	for {
		n, err := in.Read(buf)
		if n > 0 {
			for window && left < n {
				left += <-c.credit
			}
			left -= n
			if err := c.send(bootproto.Frame{Type: bootproto.FrameStdin, Data: buf[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return c.send(bootproto.Frame{Type: bootproto.FrameStdin})
		}
		if err != nil {
			return err
		}
	}
}

// Receive passes output on until the program has ended, and returns its report;
// nil if the connection ended without one.
func (c *Conn) Receive(out, errOut io.Writer) (*bootproto.Report, error) {
	for {
		f, err := bootproto.ReadFrame(c.r)
		switch {
		case errors.Is(err, io.EOF):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("the VM's launcher: %w", err)
		}
		w := out
		switch f.Type {
		case bootproto.FrameStderr:
			w = errOut
			fallthrough
		case bootproto.FrameStdout:
			if _, err := w.Write(f.Data); err != nil {
				return nil, err
			}
			if len(f.Data) > 0 {
				if err := c.send(bootproto.TakenFrame(1, len(f.Data))); err != nil && !errors.Is(err, net.ErrClosed) {
					continue // the end is about to come
				}
			}
		case bootproto.FrameTaken:
			select {
			case c.credit <- f.Taken():
			default:
			}
		case bootproto.FrameExit:
			return bootproto.ParseReport(f.Data)
		}
	}
}
