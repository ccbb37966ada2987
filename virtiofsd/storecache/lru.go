package storecache

import (
	"bytes"
	"container/list"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/pathinfo"
)

// lru holds the path infos that were last used.
type lru struct {
	capacity int

	mu     sync.Mutex
	recent *list.List // of *pathinfo.PathInfo, never changed; last used first
	byHash map[storepath.Hash]*list.Element
}

// NewLRU makes an empty service that holds up to capacity path infos in memory
// and drops the one not used for longest when it is full. Get and Put are use,
// List is not. capacity is at least 1.
func NewLRU(capacity int) (pathinfo.Service, error) {
	if capacity < 1 {
		return nil, fmt.Errorf("capacity %d: it has to be at least 1", capacity)
	}
	return &lru{capacity: capacity, recent: list.New(), byHash: map[storepath.Hash]*list.Element{}}, nil
}

// Get implements [pathinfo.Service].
func (s *lru) Get(ctx context.Context, hash storepath.Hash) (*pathinfo.PathInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byHash[hash]
	if e == nil {
		return nil, fmt.Errorf("get path info %s: %w", hash, pathinfo.ErrNotFound)
	}
	s.recent.MoveToFront(e)
	return e.Value.(*pathinfo.PathInfo), nil
}

// Put implements [pathinfo.Service].
func (s *lru) Put(ctx context.Context, p *pathinfo.PathInfo) (*pathinfo.PathInfo, error) {
	// What is stored is a copy, which the encoding makes.
	b, err := p.Encode()
	if err != nil {
		return nil, fmt.Errorf("put path info: %w", err)
	}
	own, err := pathinfo.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("put path info: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byHash[own.StorePath.Hash]; e != nil {
		e.Value = own
		s.recent.MoveToFront(e)
		return own, nil
	}
	s.byHash[own.StorePath.Hash] = s.recent.PushFront(own)
	if s.recent.Len() > s.capacity {
		oldest := s.recent.Remove(s.recent.Back()).(*pathinfo.PathInfo)
		delete(s.byHash, oldest.StorePath.Hash)
	}
	return own, nil
}

// List implements [pathinfo.Service]. It yields what is held when it begins.
func (s *lru) List(ctx context.Context) iter.Seq2[*pathinfo.PathInfo, error] {
	return func(yield func(*pathinfo.PathInfo, error) bool) {
		s.mu.Lock()
		all := make([]*pathinfo.PathInfo, 0, s.recent.Len())
		for e := s.recent.Front(); e != nil; e = e.Next() {
			all = append(all, e.Value.(*pathinfo.PathInfo))
		}
		s.mu.Unlock()
		slices.SortFunc(all, func(a, b *pathinfo.PathInfo) int {
			return bytes.Compare(a.StorePath.Hash[:], b.StorePath.Hash[:])
		})
		for _, p := range all {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			if !yield(p, nil) {
				return
			}
		}
	}
}

// Close implements [pathinfo.Service].
func (s *lru) Close() error { return nil }
