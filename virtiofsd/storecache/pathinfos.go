package storecache

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/pathinfo"
)

// pathInfos is the cache of path infos.
type pathInfos struct {
	near, far pathinfo.Service
	log       *slog.Logger
	fills     *flights[storepath.Hash, *pathinfo.PathInfo]
	// writing holds a lock for each share of the hashes, so that what is copied
	// never replaces what is put at the same time.
	writing [64]sync.Mutex
}

// NewPathInfos makes a service of near and far; see the package for what it
// does. List yields what near or far has; a far that cannot list
// ([errors.ErrUnsupported]) has nothing listed. A nil log is told nothing.
func NewPathInfos(near, far pathinfo.Service, log *slog.Logger) pathinfo.Service {
	return &pathInfos{near: near, far: far, log: logger(log), fills: newFlights[storepath.Hash, *pathinfo.PathInfo]()}
}

// Get implements [pathinfo.Service].
func (s *pathInfos) Get(ctx context.Context, hash storepath.Hash) (*pathinfo.PathInfo, error) {
	p, nearErr := s.near.Get(ctx, hash)
	if nearErr == nil {
		return p, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if errors.Is(nearErr, pathinfo.ErrNotFound) {
		return s.fills.do(ctx, hash, func(ctx context.Context) (*pathinfo.PathInfo, error) { return s.fill(ctx, hash) })
	}
	s.log.Warn("near store cannot be read", "error", nearErr)
	p, err := s.far.Get(ctx, hash)
	switch {
	case err == nil:
		return p, nil
	case errors.Is(err, pathinfo.ErrNotFound): // what near has and cannot give is not missing
		return nil, nearErr
	}
	return nil, errors.Join(nearErr, err)
}

// fill copies a path info to near. The error is one of far.
func (s *pathInfos) fill(ctx context.Context, hash storepath.Hash) (*pathinfo.PathInfo, error) {
	p, err := s.far.Get(ctx, hash)
	if err != nil {
		return nil, err
	}
	lock := s.lock(hash)
	defer lock.Unlock()
	// Somebody may have put it while far was asked.
	if put, err := s.near.Get(ctx, hash); err == nil {
		return put, nil
	} else if !errors.Is(err, pathinfo.ErrNotFound) {
		s.log.Warn("near store cannot be read", "error", err)
		return p, nil
	}
	stored, err := s.near.Put(ctx, p)
	if err != nil {
		s.log.Warn("near store takes no path info", "error", err)
		return p, nil
	}
	return stored, nil
}

// lock locks out writers of the same path info.
func (s *pathInfos) lock(hash storepath.Hash) *sync.Mutex {
	m := &s.writing[int(hash[0])%len(s.writing)]
	m.Lock()
	return m
}

// Put implements [pathinfo.Service].
func (s *pathInfos) Put(ctx context.Context, p *pathinfo.PathInfo) (*pathinfo.PathInfo, error) {
	lock := s.lock(p.StorePath.Hash)
	defer lock.Unlock()
	return s.near.Put(ctx, p)
}

// List implements [pathinfo.Service]: it merges both lists, which are in order.
func (s *pathInfos) List(ctx context.Context) iter.Seq2[*pathinfo.PathInfo, error] {
	return func(yield func(*pathinfo.PathInfo, error) bool) {
		near, far := pull(s.near.List(ctx)), pull(s.far.List(ctx))
		defer near.stop()
		defer far.stop()
		near.advance()
		far.advance()
		if errors.Is(far.err, errors.ErrUnsupported) {
			far.head, far.err = nil, nil
		}
		for {
			if err := errors.Join(near.err, far.err); err != nil {
				yield(nil, err)
				return
			}
			from := near
			switch {
			case near.head == nil && far.head == nil:
				return
			case near.head == nil:
				from = far
			case far.head != nil:
				switch order := bytes.Compare(near.head.StorePath.Hash[:], far.head.StorePath.Hash[:]); {
				case order > 0:
					from = far
				case order == 0:
					far.advance()
				}
			}
			if !yield(from.head, nil) {
				return
			}
			from.advance()
		}
	}
}

// pulled is a list of which one path info is held.
type pulled struct {
	next func() (*pathinfo.PathInfo, error, bool)
	stop func()
	head *pathinfo.PathInfo // nil at the end
	err  error
}

func pull(l iter.Seq2[*pathinfo.PathInfo, error]) *pulled {
	next, stop := iter.Pull2(l)
	return &pulled{next: next, stop: stop}
}

func (l *pulled) advance() { l.head, l.err, _ = l.next() }

// Close implements [pathinfo.Service].
func (s *pathInfos) Close() error {
	s.fills.close()
	return nil
}
