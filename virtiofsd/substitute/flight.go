package substitute

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/pathinfo"
)

var (
	errClosed = errors.New("the substituters are closed")
	// errAbandoned is why a download ended that nobody waits for any more.
	errAbandoned = errors.New("nobody waits for it any more")
)

// ErrSlow is what who asks for a path gets, wrapped, when it has not come within
// Options.Wait. The download goes on.
var ErrSlow = errors.New("it is still being fetched")

// flight is the work on one path, for all who wait for it. It ends early when the
// last of them has gone away, unless one of them has only lost patience: the
// next who asks has it then.
type flight struct {
	done   chan struct{} // closed when info and err are there
	info   *pathinfo.PathInfo
	err    error
	cancel context.CancelCauseFunc

	waiting int  // guarded by flights.mu, as is
	kept    bool // it goes on without anybody
}

// flights are the paths that are being worked on.
type flights struct {
	mu  sync.Mutex
	all map[storepath.Hash]*flight
}

// fly waits for the work on a path, which is begun unless it is under way. wait
// is for how long, without end if 0.
func (s *Service) fly(ctx context.Context, hash storepath.Hash, wait time.Duration, work func(context.Context) (*pathinfo.PathInfo, error)) (*pathinfo.PathInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := s.join(hash, work)
	if err != nil {
		return nil, err
	}
	var late <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-f.done:
		return f.info, f.err
	case <-late:
		s.flights.leave(hash, f, true)
		return nil, fmt.Errorf("fetch %s: %w after %v", hash, ErrSlow, wait)
	case <-ctx.Done():
		s.flights.leave(hash, f, false)
		return nil, ctx.Err()
	}
}

// join waits for work that is under way, or begins it.
func (s *Service) join(hash storepath.Hash, work func(context.Context) (*pathinfo.PathInfo, error)) (*flight, error) {
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	if f := s.flights.all[hash]; f != nil {
		f.waiting++
		return f, nil
	}
	if !s.begin() {
		return nil, errClosed
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	ctx, stop := context.WithTimeoutCause(ctx, s.o.PathTimeout, fmt.Errorf("fetching it took more than %v", s.o.PathTimeout))
	f := &flight{done: make(chan struct{}), cancel: cancel, waiting: 1}
	s.flights.all[hash] = f
	go func() {
		defer s.work.Done()
		defer cancel(nil)
		defer stop()
		f.info, f.err = work(ctx)
		s.flights.remove(hash, f)
		close(f.done)
	}()
	return f, nil
}

// leave is called by one who does not wait any more.
func (a *flights) leave(hash storepath.Hash, f *flight, keep bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f.waiting--
	f.kept = f.kept || keep
	if f.waiting > 0 || f.kept {
		return
	}
	f.cancel(errAbandoned)
	if a.all[hash] == f {
		delete(a.all, hash) // who asks from now on begins anew
	}
}

// remove takes away what has ended.
func (a *flights) remove(hash storepath.Hash, f *flight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all[hash] == f {
		delete(a.all, hash)
	}
}

// begin says whether work may begin, which ends with work.Done.
func (s *Service) begin() bool {
	s.closing.RLock()
	defer s.closing.RUnlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.work.Add(1)
	return true
}
