package substitute

import (
	"sync"
	"time"

	"storeboot/internal/storepath"
)

// maxMissing is how many missing paths are remembered.
const maxMissing = 1 << 16

// missing remembers for a while which paths no cache has.
type missing struct {
	ttl time.Duration

	mu    sync.Mutex
	until map[storepath.Hash]time.Time
}

func newMissing(ttl time.Duration) *missing {
	return &missing{ttl: ttl, until: map[storepath.Hash]time.Time{}}
}

func (m *missing) has(h storepath.Hash) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	until, ok := m.until[h]
	if ok && time.Now().After(until) {
		delete(m.until, h)
		ok = false
	}
	return ok
}

// add remembers a path. Where there are too many, others are forgotten.
func (m *missing) add(h storepath.Hash) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for other := range m.until {
		if len(m.until) < maxMissing {
			break
		}
		delete(m.until, other)
	}
	m.until[h] = time.Now().Add(m.ttl)
}

func (m *missing) forget(h storepath.Hash) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.until, h)
}
