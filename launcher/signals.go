package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"storeboot/launcher/session"
)

// parentDelay is how long the end of the parent context waits for the signal
// that has caused it: both are told of a signal at the same time.
const parentDelay = 100 * time.Millisecond

// signals are those that end a program. Until toGuest is called they end ctx,
// with a session.SignalError as its cause; then SIGINT and SIGTERM are for the
// guest. A broken pipe is no signal while they hold, but an error of the write,
// so that a reader that has gone leaves time to clean up.
type signals struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	ends   []func()

	mu    sync.Mutex
	guest chan syscall.Signal // nil before toGuest
	tell  io.Writer
	count int
}

func newSignals(parent context.Context) *signals {
	s := &signals{}
	s.ctx, s.cancel = context.WithCancelCause(context.WithoutCancel(parent))
	all := make(chan os.Signal, 8)
	signal.Notify(all, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	s.ends = append(s.ends, func() { signal.Stop(all); signal.Stop(pipe) })
	go s.watch(parent, all)
	return s
}

func (s *signals) stop() {
	for _, f := range s.ends {
		f()
	}
	s.cancel(nil)
}

func (s *signals) watch(parent context.Context, all <-chan os.Signal) {
	end := parent.Done()
	var late <-chan time.Time
	for {
		select {
		case x := <-all:
			late = nil // the parent's end was this signal's
			if n, ok := x.(syscall.Signal); ok {
				s.take(n)
			}
		case <-end:
			end = nil
			s.mu.Lock()
			if s.count == 0 {
				late = time.After(parentDelay)
			}
			s.mu.Unlock()
		case <-late:
			s.cancel(context.Cause(parent))
			return
		case <-s.ctx.Done():
			return
		}
	}
}

// take passes a signal on, or ends ctx.
func (s *signals) take(n syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	if s.guest != nil && (n == syscall.SIGINT || n == syscall.SIGTERM) {
		select {
		case s.guest <- n:
			if s.count == 1 && n == syscall.SIGINT && session.IsTerminal(s.tell) {
				fmt.Fprintln(s.tell, "launcher: the guest was asked to end; Ctrl-C again ends the VM at once")
			}
			return
		default:
		}
	}
	s.cancel(session.SignalError{Signal: n})
}

// toGuest returns the channel of the signals for the guest. What is to be said
// about them goes to tell.
func (s *signals) toGuest(tell io.Writer) <-chan syscall.Signal {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guest, s.tell = make(chan syscall.Signal, 1), tell
	return s.guest
}

// resized returns a channel that tells of a terminal's new size.
func (s *signals) resized() <-chan struct{} {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	s.ends = append(s.ends, func() { signal.Stop(changes) })
	out := make(chan struct{}, 1)
	go func() {
		for {
			select {
			case <-changes:
				select {
				case out <- struct{}{}:
				default:
				}
			case <-s.ctx.Done():
				return
			}
		}
	}()
	return out
}
