package main

import (
	"context"
	"errors"
	"runtime"
	"syscall"
	"testing"

	"storeboot/internal/cli"
	"storeboot/launcher/session"
)

func amd64() bool { return runtime.GOARCH == "amd64" }

func TestWithSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		// The parent's end at the same time must not hide the signal.
		parent, cancel := context.WithCancel(t.Context())
		ctx, stop := withSignals(parent)
		cancel()
		if err := syscall.Kill(syscall.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
		var status *cli.StatusError
		if err := withStatus(context.Cause(ctx)); !errors.As(err, &status) || status.Status != 128+int(sig) || status.Err != nil {
			t.Errorf("%v: %v", sig, err)
		}
		stop()
	}
	parent, cancel := context.WithCancelCause(t.Context())
	ctx, stop := withSignals(parent)
	defer stop()
	why := errors.New("why")
	cancel(why)
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), why) {
		t.Errorf("cause %v", context.Cause(ctx))
	}
}

func TestWithStatus(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
	}{
		{session.ErrTimeout, 124},
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
