package grpcstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"storeboot/virtiofsd/proto/wire"
)

var (
	errTimeout = errors.New("no answer in time")
	errIdle    = errors.New("the server has neither sent nor taken anything for too long")
)

// stream is a call of many messages. Each wait in it is bounded by idle. It has
// to be ended.
type stream struct {
	conn   *Conn
	ctx    context.Context
	cancel context.CancelCauseFunc
	grpc.ClientStream
}

// newStream begins a stream; open makes the call in the context that it gets.
func newStream(ctx context.Context, c *Conn, open func(context.Context) (grpc.ClientStream, error)) (*stream, error) {
	s := &stream{conn: c}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	err := s.bounded(func() (err error) {
		s.ClientStream, err = open(s.ctx)
		return err
	})
	if err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// end frees the stream, and breaks it off if the server has not ended it.
func (s *stream) end() { s.cancel(context.Canceled) }

// bounded runs f, which waits for the server.
func (s *stream) bounded(f func() error) error {
	timer := time.AfterFunc(s.conn.o.Idle, func() { s.cancel(errIdle) })
	defer timer.Stop()
	err := f()
	if err == io.EOF {
		return err
	}
	return s.conn.result(s.ctx, err)
}

// recv receives a message; io.EOF is the end of the stream.
func (s *stream) recv(m any) error {
	return s.bounded(func() error { return s.RecvMsg(m) })
}

// send sends a message. If the server has ended the stream, the error is the
// server's.
func (s *stream) send(m any) error {
	err := s.bounded(func() error { return s.SendMsg(m) })
	if err != io.EOF {
		return err
	}
	var reply wire.Encoded // of no interest
	if err := s.recv(&reply); err != nil && err != io.EOF {
		return err
	}
	return errors.New("the server answered before it had everything")
}

// header is the metadata with which the server began its answer, which has come.
func (s *stream) header() metadata.MD {
	md, _ := s.Header()
	return md
}

// failed makes the error of a call: what was to be done, with which server, and
// what to do about it. An end of the caller's own context stays what it is.
func (c *Conn) failed(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	switch {
	case errors.Is(err, errTimeout):
		return fmt.Errorf("%s: store server %s: %w (%v)", what, c.server, err, c.o.Timeout)
	case errors.Is(err, errIdle):
		return fmt.Errorf("%s: store server %s: %w (%v)", what, c.server, err, c.o.Idle)
	}
	s, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%s: store server %s: %w", what, c.server, err)
	}
	advice := ""
	switch s.Code() {
	case codes.Unavailable:
		advice = ": is it running?"
	case codes.Unauthenticated:
		advice = ": give the address the parameter token-file=PATH"
	}
	return fmt.Errorf("%s: store server %s: %s%s", what, c.server, s.Message(), advice)
}

// recvOnly receives the one answer to a stream of requests.
func (s *stream) recvOnly(m any) error {
	err := s.recv(m)
	if err == io.EOF {
		return errors.New("the server ended the call without an answer")
	}
	return err
}
