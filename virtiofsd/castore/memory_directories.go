package castore

import (
	"context"
	"sync"
)

// NewMemoryDirectories makes an empty directory service that holds its
// directories in memory.
func NewMemoryDirectories() DirectoryService {
	return NewDirectoryService(&memoryTable{rows: map[Digest][]byte{}})
}

type memoryTable struct {
	mu   sync.RWMutex
	rows map[Digest][]byte // values are never changed
}

func (m *memoryTable) Get(_ context.Context, d Digest) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	b, ok := m.rows[d]
	if !ok {
		return nil, ErrNotFound
	}
	return b, nil
}

func (m *memoryTable) Put(_ context.Context, rows []DirectoryRow) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range rows {
		if _, ok := m.rows[r.Digest]; !ok {
			m.rows[r.Digest] = r.Encoded
		}
	}
	return nil
}

func (m *memoryTable) Close() error { return nil }
