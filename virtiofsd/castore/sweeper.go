package castore

import (
	"context"
	"iter"
	"time"
)

// Item is a blob or directory as a [Sweeper] lists it.
type Item struct {
	Digest Digest
	Size   int64 // of what is stored, in bytes
	// Used is when it was last stored or found to be there by somebody who was
	// about to store it, to a minute: it may have been up to [UsedSlack] later.
	Used time.Time
}

// UsedSlack is by how much [Item.Used] may be too early, so that what is used
// all the time need not be written all the time.
const UsedSlack = time.Minute

// Sweeper is a blob or directory service that can list what it holds and remove
// it. A service that cannot does not implement it.
type Sweeper interface {
	// Items yields all that is held, in no particular order, without reading
	// it: what it says of damaged contents is only that they are there. What
	// is stored or removed meanwhile may be missing or there.
	Items(ctx context.Context) iter.Seq2[Item, error]
	// Remove removes those of items that were not used since before, and
	// returns them. A use and a removal of one item follow one another: either
	// the item stays, or its user learns that it is not there. Items that are
	// gone already are neither an error nor returned.
	Remove(ctx context.Context, items []Item, before time.Time) ([]Item, error)
}

// Tidier is a [Sweeper] that frees the room of what was removed when it is told
// that the removals are done, and not before.
type Tidier interface {
	// Tidy may be stopped by ctx at any time.
	Tidy(ctx context.Context) error
}

// Guard is a blob service whose store several processes may use, and which can
// keep imports and garbage collections apart.
type Guard interface {
	// Hold waits until nothing is collected, and keeps collections out until
	// release is called or the process ends. Any number may hold at once.
	Hold(ctx context.Context) (release func(), err error)
	// Exclude waits until nobody holds, and keeps everybody who wants to out
	// until release is called or the process ends. If ctx ends first its error
	// is returned.
	Exclude(ctx context.Context) (release func(), err error)
}
