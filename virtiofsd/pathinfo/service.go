package pathinfo

import (
	"context"
	"errors"
	"iter"

	"storeboot/internal/storepath"
)

// ErrNotFound is what Get returns, wrapped, for a hash without path info.
var ErrNotFound = errors.New("not in the store")

// Service holds path infos, keyed by the hash of their store path. All methods
// may be called by several goroutines at once.
type Service interface {
	// Get returns the path info, or ErrNotFound. The caller must not change it.
	Get(ctx context.Context, hash storepath.Hash) (*PathInfo, error)
	// Put checks and stores p so that it survives a power loss, replacing what
	// was there, and returns what is now stored. What p.Node refers to must be
	// stored and flushed before.
	Put(ctx context.Context, p *PathInfo) (*PathInfo, error)
	// List yields every path info, in the order of the hashes.
	List(ctx context.Context) iter.Seq2[*PathInfo, error]
	// Close frees what the service holds.
	Close() error
}
