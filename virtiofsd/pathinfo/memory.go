package pathinfo

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"storeboot/internal/storepath"
)

// NewMemory makes an empty service that holds its path infos in memory.
func NewMemory() Service {
	return &memory{infos: map[storepath.Hash]*PathInfo{}}
}

type memory struct {
	mu    sync.RWMutex
	infos map[storepath.Hash]*PathInfo // values are never changed
}

func (m *memory) Get(ctx context.Context, hash storepath.Hash) (*PathInfo, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	p, ok := m.infos[hash]
	if !ok {
		return nil, fmt.Errorf("get path info %s: %w", hash, ErrNotFound)
	}
	return p, ctx.Err()
}

func (m *memory) Put(ctx context.Context, p *PathInfo) (*PathInfo, error) {
	// What is stored is a copy, which the encoding makes.
	b, err := p.Encode()
	if err != nil {
		return nil, fmt.Errorf("put path info: %w", err)
	}
	own, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("put path info: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.infos[own.StorePath.Hash] = own
	return own, nil
}

func (m *memory) List(ctx context.Context) iter.Seq2[*PathInfo, error] {
	return func(yield func(*PathInfo, error) bool) {
		m.mu.RLock()
		all := slices.SortedFunc(maps.Values(m.infos), func(a, b *PathInfo) int {
			return bytes.Compare(a.StorePath.Hash[:], b.StorePath.Hash[:])
		})
		m.mu.RUnlock()
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

func (m *memory) Close() error { return nil }
