package storefs

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"storeboot/virtiofsd/castore"
)

// waiter is who may have to wait for the store: a request.
type waiter interface {
	// Context is done when nobody waits for the answer any more.
	Context() context.Context
	// Blocks says that the request is about to wait.
	Blocks()
}

// flights gets what a cache lacks, once for all who want the same at once, and
// lets nobody wait longer than the limit.
//
// As long as the store answers at once, it is asked by who needs it. One that
// takes its time is asked by goroutines, which go on when the guest that asked
// has gone, or has waited too long: the answer may be there when it asks again.
type flights[V any] struct {
	ctx  context.Context // of the file system
	wait time.Duration
	slow atomic.Bool
	room chan struct{} // bounds what is got at once

	mu sync.Mutex
	on map[castore.Digest]*flight[V]
}

// flight is something on its way.
type flight[V any] struct {
	done  chan struct{} // closed when the others are set
	value V
	err   error
}

const (
	// slowGet is from when on a store is one that is far away: it takes as long
	// for one directory as a near one takes for ten.
	slowGet = time.Millisecond
	// maxGets is how much is got from a slow store at once.
	maxGets = 256
	// patience is how many times the limit of a request the store may take for
	// something, a blob that it sends whole say.
	patience = 15
)

// errGone means that the guest which had asked has gone: another one that waits
// asks anew.
var errGone = errors.New("the guest has gone")

func newFlights[V any](ctx context.Context, wait time.Duration) *flights[V] {
	return &flights[V]{ctx: ctx, wait: wait, room: make(chan struct{}, maxGets), on: map[castore.Digest]*flight[V]{}}
}

// do returns what get does.
func (f *flights[V]) do(w waiter, d castore.Digest, get func(context.Context) (V, error)) (V, error) {
	for {
		v, err := f.once(w, d, get)
		if !errors.Is(err, errGone) || w.Context().Err() != nil {
			return v, err
		}
	}
}

func (f *flights[V]) once(w waiter, d castore.Digest, get func(context.Context) (V, error)) (V, error) {
	f.mu.Lock()
	x := f.on[d]
	first := x == nil
	if first {
		x = &flight[V]{done: make(chan struct{})}
		f.on[d] = x
	}
	f.mu.Unlock()
	switch {
	case first && !f.slow.Load():
		f.fly(w.Context(), d, x, f.wait, get)
		return x.value, x.err
	case first:
		go func() {
			f.room <- struct{}{}
			defer func() { <-f.room }()
			f.fly(f.ctx, d, x, patience*f.wait, get)
		}()
	}
	var none V
	w.Blocks()
	t := time.NewTimer(f.wait)
	defer t.Stop()
	select {
	case <-x.done:
		return x.value, x.err
	case <-w.Context().Done():
		return none, errGone
	case <-f.ctx.Done():
		return none, f.ctx.Err()
	case <-t.C:
		return none, errStalled
	}
}

func (f *flights[V]) fly(ctx context.Context, d castore.Digest, x *flight[V], wait time.Duration, get func(context.Context) (V, error)) {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, errStalled)
	defer cancel()
	begin := time.Now()
	x.value, x.err = get(ctx)
	if time.Since(begin) > slowGet {
		f.slow.Store(true)
	}
	if x.err != nil && ctx.Err() != nil {
		if x.err = context.Cause(ctx); !errors.Is(x.err, errStalled) {
			x.err = errGone
		}
	}
	f.mu.Lock()
	delete(f.on, d)
	f.mu.Unlock()
	close(x.done)
}
