package substitute

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/gc"
	"storeboot/virtiofsd/pathinfo"
)

const (
	// lookups is how many narinfos are asked for at once.
	lookups = 16
	// maxClosure is how many paths a closure may have.
	maxClosure = 1 << 20
	// rounds is how often a closure is planned: caches that have other builds of
	// a path make it another closure.
	rounds = 4
)

// Fetched is a path of a closure that is in the store.
type Fetched struct {
	Info *pathinfo.PathInfo
	// New says that it was not there before.
	New bool
}

// planned is a path of a closure.
type planned struct {
	path       storepath.StorePath
	info       *pathinfo.PathInfo // if it is in the store
	from       *candidate         // else
	references []storepath.StorePath
	done       chan struct{} // closed when it is in the store
}

// Fetch brings paths and all that they refer to into the store, each after what
// it refers to, and returns all of them in such an order. Beside an error it
// returns what is new. The store lacks nothing of the closure afterwards, also
// where it has paths of it without what they refer to.
func (s *Service) Fetch(ctx context.Context, paths []storepath.StorePath) ([]Fetched, error) {
	release, err := gc.Hold(ctx, s.store.Blobs) // what comes first is needed at the end
	if err != nil {
		return nil, err
	}
	defer release()
	isNew := map[storepath.Hash]bool{}
	for range rounds {
		order, missing, err := s.plan(ctx, paths)
		if err != nil {
			return nil, err
		}
		all := make([]Fetched, 0, len(order))
		if missing == 0 {
			for _, p := range order {
				all = append(all, Fetched{p.info, isNew[p.path.Hash]})
			}
			s.counts.known.Store(int64(len(order)))
			s.counts.done.Store(int64(len(order)))
			return all, nil
		}
		s.counts.known.Store(int64(len(order)))
		s.counts.done.Store(int64(len(order) - missing))
		got, err := s.carryOut(ctx, order)
		for _, p := range got {
			isNew[p.StorePath.Hash] = true
			all = append(all, Fetched{p, true})
		}
		if err != nil {
			return all, err
		}
	}
	return nil, fmt.Errorf("the closure of %s differs each time that the caches are asked", paths[0])
}

// plan finds the closure of paths, each path after those that it refers to, and
// how much of it is not in the store.
func (s *Service) plan(ctx context.Context, paths []storepath.StorePath) (order []*planned, missing int, err error) {
	var mu sync.Mutex
	all := map[storepath.Hash]*planned{}
	level := map[storepath.StorePath]bool{}
	for _, p := range paths {
		level[p] = true
	}
	for len(level) > 0 {
		next := map[storepath.StorePath]bool{}
		group, working := errgroup.WithContext(ctx)
		group.SetLimit(lookups)
		for path := range level {
			group.Go(func() error {
				p, err := s.planPath(working, path)
				if err != nil {
					return fmt.Errorf("%s: %w", path.Absolute(), err)
				}
				mu.Lock()
				defer mu.Unlock()
				all[path.Hash] = p
				if p.info == nil {
					missing++
				}
				for _, r := range p.references {
					next[r] = true
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return nil, 0, err
		}
		if len(all) > maxClosure {
			return nil, 0, fmt.Errorf("the closure has more than %d paths", maxClosure)
		}
		for r := range next {
			if all[r.Hash] != nil {
				delete(next, r)
			}
		}
		level = next
	}
	order, err = sorted(paths, all)
	return order, missing, err
}

// planPath looks a path up.
func (s *Service) planPath(ctx context.Context, path storepath.StorePath) (*planned, error) {
	p := &planned{path: path, done: make(chan struct{})}
	info, err := s.local(ctx, path.Hash)
	switch {
	case err == nil:
		p.info, p.references = info, info.References
		close(p.done)
	case errors.Is(err, pathinfo.ErrNotFound):
		if s.missing.has(path.Hash) {
			return nil, fmt.Errorf("%w, nor in a binary cache", pathinfo.ErrNotFound)
		}
		c, err := s.lookup(ctx, path.Hash)
		if err != nil {
			return nil, err
		}
		p.from, p.references = &c, c.info.References
	default:
		return nil, err
	}
	if got := p.name(); got != path {
		return nil, fmt.Errorf("%w: %s has that hash", pathinfo.ErrNotFound, got)
	}
	return p, nil
}

// name is the path that was found.
func (p *planned) name() storepath.StorePath {
	if p.info != nil {
		return p.info.StorePath
	}
	return p.from.info.StorePath
}

// sorted puts paths after what they refer to. Paths that refer to each other in a
// circle, which only a cache that lies has, are an error.
func sorted(roots []storepath.StorePath, all map[storepath.Hash]*planned) ([]*planned, error) {
	type visit struct {
		p    *planned
		next int
	}
	const entered, left = 1, 2
	state := map[storepath.Hash]int{}
	var order []*planned
	var stack []visit
	for _, root := range roots {
		if state[root.Hash] != 0 {
			continue
		}
		state[root.Hash] = entered
		stack = append(stack, visit{p: all[root.Hash]})
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if top.next == len(top.p.references) {
				state[top.p.path.Hash] = left
				order = append(order, top.p)
				stack = stack[:len(stack)-1]
				continue
			}
			r := top.p.references[top.next]
			top.next++
			switch {
			case r == top.p.path || state[r.Hash] == left:
			case state[r.Hash] == entered:
				return nil, fmt.Errorf("%s and %s refer to each other: the cache is damaged or lies", top.p.path, r)
			default:
				state[r.Hash] = entered
				stack = append(stack, visit{p: all[r.Hash]})
			}
		}
	}
	return order, nil
}

// carryOut fetches what of the plan is not in the store, and returns what it
// brought, also beside an error.
func (s *Service) carryOut(ctx context.Context, order []*planned) ([]*pathinfo.PathInfo, error) {
	byHash := map[storepath.Hash]*planned{}
	for _, p := range order {
		byHash[p.path.Hash] = p
	}
	var mu sync.Mutex
	var got []*pathinfo.PathInfo
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(demandSlots) // begun in order: what one waits for is under way or done
	for _, p := range order {
		if p.info != nil || working.Err() != nil {
			continue
		}
		group.Go(func() error {
			info, err := s.fetchPlanned(working, p, byHash)
			if err != nil {
				s.counts.failed.Add(1)
				return fmt.Errorf("%s: %w", p.path.Absolute(), err)
			}
			s.counts.done.Add(1)
			close(p.done)
			mu.Lock()
			defer mu.Unlock()
			got = append(got, info)
			return nil
		})
	}
	err := group.Wait()
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return got, err
}

// fetchPlanned fetches a path, which becomes visible after what it refers to.
func (s *Service) fetchPlanned(ctx context.Context, p *planned, all map[storepath.Hash]*planned) (*pathinfo.PathInfo, error) {
	before := func(work context.Context, info *pathinfo.PathInfo) error {
		for _, r := range info.References {
			other := all[r.Hash]
			if other == nil || other == p {
				continue // of another build than was planned: the next round has it
			}
			select {
			case <-other.done:
			case <-ctx.Done():
				return ctx.Err()
			case <-work.Done():
				return context.Cause(work)
			}
		}
		return nil
	}
	return s.fly(ctx, p.path.Hash, 0, func(work context.Context) (*pathinfo.PathInfo, error) {
		return s.fetch(work, p.path.Hash, p.from, before)
	})
}
