package main

import (
	"context"
	"errors"
	"io"
	"runtime"
	"syscall"
	"testing"

	"storeboot/internal/cli"
	"storeboot/launcher/session"
)

func amd64() bool { return runtime.GOARCH == "amd64" }

func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		// The parent's end at the same time must not hide the signal.
		parent, cancel := context.WithCancel(t.Context())
		s := newSignals(parent)
		cancel()
		if err := syscall.Kill(syscall.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
		<-s.ctx.Done()
		var status *cli.StatusError
		if err := withStatus(context.Cause(s.ctx)); !errors.As(err, &status) || status.Status != 128+int(sig) || status.Err != nil {
			t.Errorf("%v: %v", sig, err)
		}
		s.stop()
	}
	parent, cancel := context.WithCancelCause(t.Context())
	s := newSignals(parent)
	defer s.stop()
	why := errors.New("why")
	cancel(why)
	<-s.ctx.Done()
	if !errors.Is(context.Cause(s.ctx), why) {
		t.Errorf("cause %v", context.Cause(s.ctx))
	}
}

// TestSignalsToGuest holds that the guest gets the first, and that those that
// nobody takes end the VM.
func TestSignalsToGuest(t *testing.T) {
	s := newSignals(t.Context())
	defer s.stop()
	guest := s.toGuest(io.Discard)
	for range 2 {
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if got := <-guest; got != syscall.SIGTERM {
			t.Errorf("got %v", got)
		}
	}
	s.take(syscall.SIGINT)
	if s.ctx.Err() != nil {
		t.Error("a signal that may be taken ends the VM")
	}
	s.take(syscall.SIGINT)
	<-s.ctx.Done()
	var sig session.SignalError
	if !errors.As(context.Cause(s.ctx), &sig) || sig.Signal != syscall.SIGINT {
		t.Errorf("cause %v", context.Cause(s.ctx))
	}
}

func TestWithStatus(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
	}{
		{session.ErrTimeout, 124},
		{session.ErrKilled, 128 + 9},
		{session.SignalError{Signal: syscall.SIGHUP}, 129},
		{syscall.EPIPE, 128 + 13},
	} {
		var status *cli.StatusError
		if err := withStatus(tt.err); !errors.As(err, &status) || status.Status != tt.status {
			t.Errorf("%v: %v", tt.err, err)
		}
	}
	other := errors.New("other")
	if withStatus(other) != other {
		t.Error("another error is changed")
	}
}
