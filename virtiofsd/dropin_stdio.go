package main

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// errStdioEnded is what the listener of a single connection answers when that
// has ended: the daemon has nothing left to serve.
var errStdioEnded = errors.New("the connection on standard input and output has ended")

// stdioListener is a listener with one connection: standard input and output, or
// the socket that inetd gives a program as both.
type stdioListener struct {
	conn   net.Conn
	first  chan struct{} // has a token until the connection is accepted
	ended  chan struct{} // closed with the connection
	closed chan struct{}
	once   sync.Once
}

func newStdioListener(in io.Reader, out io.Writer) (*stdioListener, error) {
	l := &stdioListener{first: make(chan struct{}, 1), ended: make(chan struct{}), closed: make(chan struct{})}
	l.first <- struct{}{}
	if f, ok := in.(*os.File); ok {
		// A socket as standard input is the connection, for both directions.
		if c, err := net.FileConn(f); err == nil {
			l.conn = &endingConn{Conn: c, ended: l.ended}
			return l, nil
		}
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return nil, errors.New("standard input is no connection: have it started by inetd, or give it pipes")
		}
	}
	l.conn = &endingConn{Conn: &pipeConn{in: in, out: out}, ended: l.ended}
	return l, nil
}

func (l *stdioListener) Accept() (net.Conn, error) {
	select {
	case <-l.first:
		return l.conn, nil
	default:
	}
	select {
	case <-l.ended:
		return nil, errStdioEnded
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *stdioListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *stdioListener) Addr() net.Addr { return stdioAddr{} }

// endingConn tells when it is closed.
type endingConn struct {
	net.Conn
	once  sync.Once
	ended chan struct{}
}

func (c *endingConn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = c.Conn.Close()
		close(c.ended)
	})
	return err
}

// pipeConn is a pair of streams as a connection. It has no time limits: whoever
// started us with pipes ends us by closing them.
type pipeConn struct {
	in  io.Reader
	out io.Writer
}

func (c *pipeConn) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *pipeConn) Write(b []byte) (int, error) { return c.out.Write(b) }

// Close closes both streams, of those that can be closed.
func (c *pipeConn) Close() error {
	var errs []error
	for _, x := range []any{c.out, c.in} {
		if s, ok := x.(io.Closer); ok {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

func (c *pipeConn) LocalAddr() net.Addr              { return stdioAddr{} }
func (c *pipeConn) RemoteAddr() net.Addr             { return stdioAddr{} }
func (c *pipeConn) SetDeadline(time.Time) error      { return nil }
func (c *pipeConn) SetReadDeadline(time.Time) error  { return nil }
func (c *pipeConn) SetWriteDeadline(time.Time) error { return nil }

type stdioAddr struct{}

func (stdioAddr) Network() string { return "stdio" }
func (stdioAddr) String() string  { return "stdio" }
