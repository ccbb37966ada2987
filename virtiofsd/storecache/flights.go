package storecache

import (
	"context"
	"errors"
	"sync"
)

var errClosed = errors.New("the cache is closed")

// flights does the same work once for all who ask for it at the same time.
// Make one with [newFlights].
type flights[K comparable, V any] struct {
	mu     sync.Mutex
	byKey  map[K]*flight[V]
	closed bool
	wg     sync.WaitGroup
}

// flight is work that is under way. value and err are valid once done is
// closed; waiters is guarded by the mutex of flights.
type flight[V any] struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int
	value   V
	err     error
}

func newFlights[K comparable, V any]() *flights[K, V] {
	return &flights[K, V]{byKey: map[K]*flight[V]{}}
}

// do returns what work returns. The context of work has the values of the
// first caller's and ends when no caller waits any more.
func (f *flights[K, V]) do(ctx context.Context, key K, work func(context.Context) (V, error)) (V, error) {
	c, err := f.join(ctx, key, work)
	if err != nil {
		var none V
		return none, err
	}
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		f.leave(key, c)
		var none V
		return none, ctx.Err()
	}
}

// join waits for the flight of key, or begins it.
func (f *flights[K, V]) join(ctx context.Context, key K, work func(context.Context) (V, error)) (*flight[V], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errClosed
	}
	if c := f.byKey[key]; c != nil {
		c.waiters++
		return c, nil
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &flight[V]{done: make(chan struct{}), cancel: cancel, waiters: 1}
	f.byKey[key] = c
	f.wg.Go(func() {
		defer cancel()
		c.value, c.err = work(own)
		f.mu.Lock()
		if f.byKey[key] == c {
			delete(f.byKey, key)
		}
		f.mu.Unlock()
		close(c.done)
	})
	return c, nil
}

// leave ends the flight if nobody else waits for it. Who comes later begins
// another.
func (f *flights[K, V]) leave(key K, c *flight[V]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.waiters--
	if c.waiters == 0 {
		c.cancel()
		if f.byKey[key] == c {
			delete(f.byKey, key)
		}
	}
}

// close ends all flights and waits for them.
func (f *flights[K, V]) close() {
	f.mu.Lock()
	f.closed = true
	for _, c := range f.byKey {
		c.cancel()
	}
	f.mu.Unlock()
	f.wg.Wait()
}
