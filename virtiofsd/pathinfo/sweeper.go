package pathinfo

import (
	"context"
	"iter"
	"time"

	"storeboot/internal/storepath"
)

// Item is a path info as a [Sweeper] lists it.
type Item struct {
	Hash storepath.Hash
	// Used is when it was last put or touched, in whole seconds.
	Used time.Time
}

// Sweeper is a [Service] that can list what it holds, damaged or not, and
// remove it. A service that cannot does not implement it.
type Sweeper interface {
	// Items yields what is held, in the order of the hashes, without reading
	// it.
	Items(ctx context.Context) iter.Seq2[Item, error]
	// Touch notes that a path info is in use, as Put does. One that is not
	// there is ErrNotFound.
	Touch(ctx context.Context, hash storepath.Hash) error
	// Remove removes, all or none, those of items that were not put or touched
	// since before, and returns them. They are gone for good, also after a power
	// loss, when it returns.
	Remove(ctx context.Context, items []Item, before time.Time) ([]Item, error)
}
