package substitute

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/binarycache"
	"storeboot/virtiofsd/narinfo"
	"storeboot/virtiofsd/pathinfo"
)

// attempts is how often a path is tried with one cache, from the narinfo on: one
// that changes between two requests gives a NAR that does not fit.
const attempts = 2

// candidate is what a cache says of a path.
type candidate struct {
	source *source
	info   *narinfo.NarInfo
}

// fetch brings a path into the store. hint, unless nil, is tried first. before,
// unless nil, is called when all but the path info is stored.
func (s *Service) fetch(ctx context.Context, hash storepath.Hash, hint *candidate, before func(context.Context, *pathinfo.PathInfo) error) (*pathinfo.PathInfo, error) {
	var errs []error
	if hint != nil {
		p, err := s.take(ctx, *hint, before)
		if err == nil || ctx.Err() != nil {
			return p, err
		}
		s.failed(hint.source, err)
	}
	for _, src := range s.ordered(ctx, &errs) {
		p, err := s.fetchFrom(ctx, src, hash, before)
		switch {
		case err == nil:
			s.missing.forget(hash)
			return p, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("fetch %s: %w", hash, context.Cause(ctx))
		case !errors.Is(err, binarycache.ErrNotFound):
			s.failed(src, err)
			errs = append(errs, err)
		}
	}
	return nil, s.none(hash, errs)
}

// none is the error for a path that no cache gives. It is missing only if all
// caches said so.
func (s *Service) none(hash storepath.Hash, errs []error) error {
	if len(errs) > 0 {
		return fmt.Errorf("fetch %s: %w", hash, errors.Join(errs...))
	}
	s.missing.add(hash)
	return fmt.Errorf("path info %s: %w, nor in a binary cache", hash, pathinfo.ErrNotFound)
}

// fetchFrom brings a path into the store from one cache.
func (s *Service) fetchFrom(ctx context.Context, src *source, hash storepath.Hash, before func(context.Context, *pathinfo.PathInfo) error) (p *pathinfo.PathInfo, err error) {
	for attempt := range attempts {
		var n *narinfo.NarInfo
		n, err = src.Cache.NarInfo(ctx, hash)
		if err != nil {
			return nil, err
		}
		p, err = s.take(ctx, candidate{src, n}, before)
		if err == nil || ctx.Err() != nil || binarycache.Unreachable(err) {
			return p, err
		}
		if attempt == 0 {
			s.o.Log.Warn("cache gave something else than it promised", "path", n.StorePath, "error", err)
		}
	}
	if errors.Is(err, binarycache.ErrNotFound) {
		// A narinfo without its NAR is damage, not absence.
		err = fmt.Errorf("the cache has a narinfo but not its NAR: %v", err) // it must not look like absence
	}
	return nil, err
}

// lookup finds out which cache has a path.
func (s *Service) lookup(ctx context.Context, hash storepath.Hash) (candidate, error) {
	var errs []error
	for _, src := range s.ordered(ctx, &errs) {
		n, err := src.Cache.NarInfo(ctx, hash)
		switch {
		case err == nil:
			return candidate{src, n}, nil
		case ctx.Err() != nil:
			return candidate{}, context.Cause(ctx)
		case !errors.Is(err, binarycache.ErrNotFound):
			s.failed(src, err)
			errs = append(errs, err)
		}
	}
	return candidate{}, s.none(hash, errs)
}

// ordered returns the caches that are up, by their priority, and adds to errs why
// the others are not.
func (s *Service) ordered(ctx context.Context, errs *[]error) []*source {
	type known struct {
		source   *source
		priority int
		err      error
	}
	all := make([]known, len(s.sources))
	var wg sync.WaitGroup
	for i, src := range s.sources {
		all[i].source = src
		if all[i].err = src.isDown(); all[i].err != nil {
			continue
		}
		wg.Go(func() {
			info, err := src.Cache.Info(ctx)
			if err != nil && ctx.Err() == nil {
				s.failed(src, err)
			}
			all[i].priority, all[i].err = info.Priority, err
		})
	}
	wg.Wait()
	slices.SortStableFunc(all, func(a, b known) int { return cmp.Compare(a.priority, b.priority) })
	var up []*source
	for _, k := range all {
		if k.err != nil {
			*errs = append(*errs, k.err)
			continue
		}
		up = append(up, k.source)
	}
	return up
}

// failed notes that a cache cannot be reached, if err says so.
func (s *Service) failed(src *source, err error) {
	s.o.Log.Warn("cache fails", "cache", src.Cache.String(), "error", err)
	if !binarycache.Unreachable(err) {
		return
	}
	src.mu.Lock()
	defer src.mu.Unlock()
	src.downUntil, src.down = time.Now().Add(downTime), err
}

// isDown is an error if the cache could not be reached a moment ago.
func (s *source) isDown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down == nil || time.Now().After(s.downUntil) {
		s.down = nil
		return nil
	}
	return fmt.Errorf("%w; it is not asked again for %v", s.down, time.Until(s.downUntil).Round(time.Second))
}
