package substitute

import (
	"errors"
	"sync"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/pathinfo"
)

// maxSeen is how many paths are remembered as seen; a closure has thousands. When
// it is passed all are forgotten, which costs looking them up again.
const maxSeen = 1 << 20

// prefetcher fetches what paths refer to: a queue, first come first served.
type prefetcher struct {
	service *Service

	mu    sync.Mutex
	more  *sync.Cond
	queue []storepath.StorePath
	seen  map[storepath.Hash]bool // true: its references are queued
}

func newPrefetcher(s *Service) *prefetcher {
	p := &prefetcher{service: s, seen: map[storepath.Hash]bool{}}
	p.more = sync.NewCond(&p.mu)
	return p
}

// touched queues what a path that is in the store refers to, once.
func (p *prefetcher) touched(info *pathinfo.PathInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	walked, known := p.seen[info.StorePath.Hash]
	if walked {
		return
	}
	if len(p.seen) > maxSeen {
		clear(p.seen)
	}
	p.seen[info.StorePath.Hash] = true
	if !known {
		p.service.counts.known.Add(1)
	}
	p.service.counts.done.Add(1)
	for _, r := range info.References {
		if _, known := p.seen[r.Hash]; known {
			continue
		}
		p.seen[r.Hash] = false
		p.service.counts.known.Add(1)
		p.queue = append(p.queue, r)
		p.more.Signal()
	}
}

// next waits for a path to fetch; ok is false at the end of the service.
func (p *prefetcher) next() (path storepath.StorePath, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) == 0 && p.service.ctx.Err() == nil {
		p.more.Wait()
	}
	if p.service.ctx.Err() != nil {
		return storepath.StorePath{}, false
	}
	path = p.queue[0]
	p.queue = p.queue[1:]
	return path, true
}

// wake lets those who wait look whether the service has ended.
func (p *prefetcher) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.more.Broadcast()
}

// run fetches until the service ends.
func (p *prefetcher) run() {
	s := p.service
	for {
		path, ok := p.next()
		if !ok {
			return
		}
		info, err := s.local(s.ctx, path.Hash)
		if errors.Is(err, pathinfo.ErrNotFound) {
			info, err = s.get(s.ctx, path.Hash, 0, nil)
		}
		if s.ctx.Err() != nil {
			return
		}
		if err != nil {
			s.counts.failed.Add(1)
			s.o.Log.Warn("path cannot be fetched ahead", "path", path, "error", err)
			continue
		}
		p.touched(info)
	}
}
