package substitute

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/binarycache"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storecache"
)

const (
	// demandSlots is how many paths that somebody waits for are downloaded at
	// once, prefetchSlots how many of the others.
	demandSlots, prefetchSlots = 8, 4
	// downTime is how long a cache that cannot be reached is left alone.
	downTime = 10 * time.Second
	// DefaultPathTimeout is the limit of time for one path: what moves at all is
	// not given up lightly, since it would begin at the start again.
	DefaultPathTimeout = 2 * time.Hour
	// DefaultWait is a good Options.Wait for who reads on behalf of a guest:
	// longer than a cache is tried that does not answer (about 3 minutes), shorter
	// than a person's patience.
	DefaultWait = 5 * time.Minute
	// DefaultNegativeTTL is how long a path that no cache has is taken for
	// missing.
	DefaultNegativeTTL = time.Minute
	// held is how many path infos are kept in memory where no store takes them.
	held = 1 << 16
)

// Store is what paths are brought into.
type Store struct {
	Blobs       castore.BlobService
	Directories castore.DirectoryService
	// PathInfos may be nil: then the path infos are kept in memory.
	PathInfos pathinfo.Service
}

// Source is a cache to look in.
type Source struct {
	Cache *binarycache.Cache
	// Blobs and Directories hold what the castore URLs of the cache name; nil if
	// nothing does.
	Blobs       castore.BlobService
	Directories castore.DirectoryService
}

// Options of a service. The zero value has the defaults.
type Options struct {
	// Log is told what is fetched and what fails; nil: nothing is.
	Log *slog.Logger
	// Prefetch fetches what the paths that are asked for refer to.
	Prefetch bool
	// Wait is how long Get waits for a path, which goes on being fetched; 0: for
	// as long as that takes.
	Wait time.Duration
	// PathTimeout is how long the download of one path may take; 0:
	// DefaultPathTimeout.
	PathTimeout time.Duration
	// NegativeTTL is how long a path that no cache has is taken for missing; 0:
	// DefaultNegativeTTL.
	NegativeTTL time.Duration
}

// Service implements [pathinfo.Service]. Make one with [New].
type Service struct {
	store   Store
	near    pathinfo.Service // of store, or memory
	lazy    pathinfo.Service // of trees that are not in the store
	sources []*source
	o       Options

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	closing sync.RWMutex // held while work begins
	work    sync.WaitGroup

	flights  flights
	demand   chan struct{} // holds one for each download under way
	missing  *missing
	prefetch *prefetcher
	counts   counts
}

// source is a cache with what is known of its state.
type source struct {
	Source
	mu        sync.Mutex
	downUntil time.Time
	down      error // why
}

// New makes a service of the store and the sources, which it does not close.
func New(store Store, sources []Source, o Options) (*Service, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.PathTimeout == 0 {
		o.PathTimeout = DefaultPathTimeout
	}
	if o.NegativeTTL == 0 {
		o.NegativeTTL = DefaultNegativeTTL
	}
	near := store.PathInfos
	var err error
	if near == nil {
		if near, err = storecache.NewLRU(held); err != nil {
			return nil, err
		}
	}
	lazy, err := storecache.NewLRU(held)
	if err != nil {
		return nil, err
	}
	s := &Service{store: store, near: near, lazy: lazy, o: o, demand: make(chan struct{}, demandSlots), missing: newMissing(o.NegativeTTL), flights: flights{all: map[storepath.Hash]*flight{}}}
	for _, src := range sources {
		if err := src.Cache.Address().CheckTrust(); err != nil {
			return nil, err
		}
		s.sources = append(s.sources, &source{Source: src})
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if o.Prefetch {
		s.prefetch = newPrefetcher(s)
		for range prefetchSlots {
			s.work.Go(s.prefetch.run)
		}
	}
	return s, nil
}

// Caches are the addresses of the sources, without parameters.
func (s *Service) Caches() []string {
	var list []string
	for _, src := range s.sources {
		list = append(list, src.Cache.String())
	}
	return list
}

// Get implements [pathinfo.Service]. What is not in the store is fetched.
func (s *Service) Get(ctx context.Context, hash storepath.Hash) (*pathinfo.PathInfo, error) {
	p, err := s.local(ctx, hash)
	if errors.Is(err, pathinfo.ErrNotFound) {
		p, err = s.get(ctx, hash, s.o.Wait, s.demand)
		if err == nil && s.prefetch == nil {
			s.counts.known.Add(1)
			s.counts.done.Add(1)
		}
	}
	if err == nil && s.prefetch != nil {
		s.prefetch.touched(p)
	}
	return p, err
}

// local is what needs no cache.
func (s *Service) local(ctx context.Context, hash storepath.Hash) (*pathinfo.PathInfo, error) {
	p, err := s.near.Get(ctx, hash)
	if errors.Is(err, pathinfo.ErrNotFound) {
		if p, lazyErr := s.lazy.Get(ctx, hash); lazyErr == nil {
			return p, nil
		}
	}
	return p, err
}

// get fetches a path that is not in the store, once for all who ask, and waits
// for it, without end if wait is 0. slots bounds how many are fetched.
func (s *Service) get(ctx context.Context, hash storepath.Hash, wait time.Duration, slots chan struct{}) (*pathinfo.PathInfo, error) {
	if s.missing.has(hash) {
		return nil, fmt.Errorf("path info %s: %w", hash, pathinfo.ErrNotFound)
	}
	return s.fly(ctx, hash, wait, func(ctx context.Context) (*pathinfo.PathInfo, error) {
		// It may have come since the caller looked.
		if p, err := s.local(ctx, hash); !errors.Is(err, pathinfo.ErrNotFound) {
			return p, err
		}
		if slots != nil {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		return s.fetch(ctx, hash, nil, nil)
	})
}

// Put implements [pathinfo.Service].
func (s *Service) Put(ctx context.Context, p *pathinfo.PathInfo) (*pathinfo.PathInfo, error) {
	p, err := s.near.Put(ctx, p)
	if err == nil {
		s.missing.forget(p.StorePath.Hash)
	}
	return p, err
}

// List implements [pathinfo.Service]: it lists what is in the store.
func (s *Service) List(ctx context.Context) iter.Seq2[*pathinfo.PathInfo, error] {
	if s.store.PathInfos == nil {
		return func(yield func(*pathinfo.PathInfo, error) bool) {
			yield(nil, fmt.Errorf("list store paths: %w: a binary cache cannot be listed; use cache:?near=...&far=...", errors.ErrUnsupported))
		}
	}
	return s.near.List(ctx)
}

// Close ends the downloads.
func (s *Service) Close() error {
	s.closing.Lock()
	s.cancel()
	s.closing.Unlock()
	if s.prefetch != nil {
		s.prefetch.wake()
	}
	s.work.Wait()
	return nil
}

// Progress is how far the downloads are. The numbers only grow.
type Progress struct {
	// PathsKnown are the paths that were asked for or are known to be needed;
	// PathsDone those of them that are in the store, PathsFailed those that
	// could not be fetched.
	PathsKnown  int64 `json:"pathsKnown"`
	PathsDone   int64 `json:"pathsDone"`
	PathsFailed int64 `json:"pathsFailed"`
	// BytesKnown are to be downloaded as far as it is known, BytesDone are.
	BytesKnown int64 `json:"bytesKnown"`
	BytesDone  int64 `json:"bytesDone"`
	// Requests to the caches, with repeats.
	Requests int64 `json:"requests"`
	// Active is how many paths are being downloaded.
	Active int64 `json:"active"`
}

// counts is what Progress shows.
type counts struct {
	known, done, failed, bytesKnown, bytesDone, active atomic.Int64
}

// Progress returns how far the downloads are.
func (s *Service) Progress() Progress {
	p := Progress{
		PathsKnown: s.counts.known.Load(), PathsDone: s.counts.done.Load(), PathsFailed: s.counts.failed.Load(),
		BytesKnown: s.counts.bytesKnown.Load(), BytesDone: s.counts.bytesDone.Load(), Active: s.counts.active.Load(),
	}
	for _, src := range s.sources {
		n, _ := src.Cache.Requests()
		p.Requests += n
	}
	return p
}
