package storecache

import (
	"context"
	"errors"
	"testing"
)

// gate lets calls through once it is open, and counts them.
type gate struct {
	entered chan struct{} // gets one value for each call
	open    chan struct{}
}

func newGate() gate { return gate{make(chan struct{}, 1000), make(chan struct{})} }

func (g gate) pass(ctx context.Context) error {
	g.entered <- struct{}{}
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestSingleFlight holds that several who ask share one request, which goes on
// until the last of them gives up.
func TestSingleFlight(t *testing.T) {
	f := newFlights[string, int]()
	g := newGate()
	work := func(ctx context.Context) (int, error) { return 7, g.pass(ctx) }
	ctx, cancel := context.WithCancel(context.Background())
	canceled := make(chan error)
	go func() { _, err := f.do(ctx, "k", work); canceled <- err }()
	<-g.entered
	c, err := f.join(context.Background(), "k", work) // shares it
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-canceled; !errors.Is(err, context.Canceled) {
		t.Errorf("who gives up gets %v", err)
	}
	close(g.open)
	<-c.done
	if c.value != 7 || c.err != nil {
		t.Errorf("who waits gets %d, %v", c.value, c.err)
	}
	if len(g.entered) != 0 {
		t.Error("the work was done more than once")
	}

	// The last one to give up ends the work.
	g = newGate()
	ctx, cancel = context.WithCancel(context.Background())
	go func() { <-g.entered; cancel() }()
	if _, err := f.do(ctx, "k", work); !errors.Is(err, context.Canceled) {
		t.Errorf("who gives up gets %v", err)
	}
	f.close() // returns: nothing hangs
	if _, err := f.do(context.Background(), "k", work); !errors.Is(err, errClosed) {
		t.Errorf("after close: %v", err)
	}
}
