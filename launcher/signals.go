package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// signalError is the cause of a context's end by a signal.
type signalError struct{ signal syscall.Signal }

func (e signalError) Error() string { return fmt.Sprintf("signal %d (%v)", e.signal, e.signal) }

// parentDelay is how long the end of the parent context waits for the signal
// that has caused it: both are told of a signal at the same time.
const parentDelay = 100 * time.Millisecond

// withSignals returns a context that ends with a signalError as its cause when
// one of the signals comes that end a program, or with its parent. A broken
// pipe is no signal while it holds, but an error of the write, so that a reader
// that has gone leaves time to clean up.
func withSignals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	go func() {
		end := parent.Done()
		var late <-chan time.Time
		for {
			select {
			case s := <-signals:
				if n, ok := s.(syscall.Signal); ok {
					cancel(signalError{n})
				}
				return
			case <-end:
				end = nil
				late = time.After(parentDelay)
			case <-late:
				cancel(context.Cause(parent))
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		signal.Stop(pipe)
		cancel(nil)
	}
}
