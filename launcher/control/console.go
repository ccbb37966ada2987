package control

import (
	"io"
	"sync"

	"storeboot/internal/bootproto"
)

const (
	// backlog is how much of what was written last a client gets when it comes,
	// in bytes.
	backlog = 16 << 10
	// maxBehind is how much a client may be behind before it is dropped: the guest
	// does not wait for one.
	maxBehind = 4 << 20
)

// Console is a VM's console that clients may come to and go from. It is the
// writer of its output and the reader of its input.
type Console struct {
	mu      sync.Mutex
	last    []byte
	clients map[*attached]bool
	closed  bool

	input chan []byte
	rest  []byte // of input, for Read
	done  chan struct{}
}

type attached struct {
	more   *sync.Cond // of Console.mu
	behind []byte
	gone   bool
}

// NewConsole makes one without clients.
func NewConsole() *Console {
	return &Console{clients: map[*attached]bool{}, input: make(chan []byte), done: make(chan struct{})}
}

// Write hands output to all clients; it never fails and never waits.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = append(c.last, p...)
	if n := len(c.last) - backlog; n > 0 {
		c.last = append(c.last[:0], c.last[n:]...)
	}
	for a := range c.clients {
		if len(a.behind)+len(p) > maxBehind {
			a.gone = true
		} else {
			a.behind = append(a.behind, p...)
		}
		a.more.Broadcast()
	}
	return len(p), nil
}

// Read returns what clients type, until Close.
func (c *Console) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		select {
		case c.rest = <-c.input:
		case <-c.done:
			return 0, io.EOF
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Close lets all clients go.
func (c *Console) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	close(c.done)
	for a := range c.clients {
		a.more.Broadcast()
	}
}

// attach serves one client until it goes or the console is closed.
func (c *Console) attach(client io.ReadWriter) {
	a := &attached{}
	a.more = sync.NewCond(&c.mu)
	c.mu.Lock()
	a.behind = append(a.behind, c.last...)
	c.clients[a] = true
	c.mu.Unlock()
	go func() {
		c.readFrom(client)
		c.mu.Lock()
		a.gone = true
		a.more.Broadcast()
		c.mu.Unlock()
	}()
	for {
		c.mu.Lock()
		for len(a.behind) == 0 && !a.gone && !c.closed {
			a.more.Wait()
		}
		data := a.behind
		a.behind = nil
		if a.gone || len(data) == 0 {
			delete(c.clients, a)
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		for len(data) > 0 {
			n := min(len(data), bootproto.MaxFrame)
			if bootproto.WriteFrame(client, bootproto.Frame{Type: bootproto.FrameStdout, Stream: 1, Data: data[:n]}) != nil {
				c.mu.Lock()
				delete(c.clients, a)
				c.mu.Unlock()
				return
			}
			data = data[n:]
		}
	}
}

func (c *Console) readFrom(client io.Reader) {
	for {
		f, err := bootproto.ReadFrame(client)
		if err != nil {
			return
		}
		if f.Type != bootproto.FrameStdin || len(f.Data) == 0 {
			continue
		}
		select {
		case c.input <- f.Data:
		case <-c.done:
			return
		}
	}
}
