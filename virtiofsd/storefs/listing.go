package storefs

import (
	"context"
	"encoding/binary"
	"slices"
	"sort"
	"sync"
	"time"

	"storeboot/virtiofsd/castore"
)

// rootTTL is how long the guest, and we, take the root's listing for valid,
// unless the view says otherwise.
const rootTTL = time.Second

// listing is the root directory at one time. It does not change.
type listing struct {
	trees []*storeTree
	// cookies are the offsets that a READDIR goes on from, ascending. They are
	// made of the hashes of the store paths, so that one stays good when the
	// store changes or the daemon starts anew: no name is lost or comes twice.
	cookies []uint64
	changed time.Time
	bytes   uint64 // of all NARs
	nodes   uint64
}

func newListing(trees []*storeTree, changed time.Time) *listing {
	slices.SortFunc(trees, func(a, b *storeTree) int { return slices.Compare(a.path.Hash[:], b.path.Hash[:]) })
	l := &listing{trees: trees, cookies: make([]uint64, len(trees)), changed: changed}
	last := uint64(dots)
	for i, t := range trees {
		last = max(last+1, binary.BigEndian.Uint64(t.path.Hash[:])>>1)
		l.cookies[i] = last
		l.bytes += t.narSize
		l.nodes++
		if t.node.Kind == castore.KindDirectory {
			l.nodes += t.node.Size / 2
		}
	}
	return l
}

// after is the index of the first tree behind an offset.
func (l *listing) after(offset uint64) int {
	return sort.Search(len(l.cookies), func(i int) bool { return l.cookies[i] > offset })
}

// plus writes the entries from tree i on to b, as many as fit, as [dir.plus] does.
func (l *listing) plus(b []byte, i int) int {
	n := 0
	for ; i < len(l.trees); i++ {
		t := l.trees[i]
		if len(b)-n < len(t.self.image) {
			break
		}
		k := t.self.plus(b[n:], 0, t.id)
		binary.NativeEndian.PutUint64(b[n+direntOff:], l.cookies[i])
		n += k
	}
	return n
}

func (l *listing) plain(b []byte, i int) int {
	n := 0
	for ; i < len(l.trees); i++ {
		t := l.trees[i]
		k := t.self.plain(b[n:], 0, t.id)
		if k == 0 {
			break
		}
		binary.NativeEndian.PutUint64(b[n+8:], l.cookies[i])
		n += k
	}
	return n
}

// lister keeps the listing of the whole store, for all guests.
type lister struct {
	trees *treeTable

	mu    sync.Mutex
	now   *listing // nil before the first
	stale time.Time
	begin time.Time // of the file system: the time of a root that was not listed yet
}

// list returns the listing, having looked at the store if that is due and fresh
// is asked for. A large store takes a while to list; no more than a twentieth of
// the time goes into that.
func (l *lister) list(ctx context.Context, fresh bool) (*listing, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	begin := time.Now()
	if l.now != nil && (!fresh || begin.Before(l.stale)) {
		return l.now, nil
	}
	var trees []*storeTree
	for info, err := range l.trees.infos.List(ctx) {
		if err != nil {
			return nil, err
		}
		t, err := l.trees.get(info)
		if err != nil {
			return nil, err
		}
		trees = append(trees, t)
	}
	next := newListing(trees, l.begin)
	switch {
	case l.now == nil:
	case slices.Equal(next.trees, l.now.trees):
		next = l.now
	default:
		next.changed = time.Now()
	}
	l.now, l.stale = next, time.Now().Add(max(rootTTL, 20*time.Since(begin)))
	return next, nil
}

// changed is the root's modification time. It changes when the listing does,
// which makes the guest's kernel drop its own copy.
func (l *lister) changed(ctx context.Context) (time.Time, error) {
	l.mu.Lock()
	listed := l.now != nil
	l.mu.Unlock()
	if !listed { // nobody has a copy
		return l.begin, nil
	}
	now, err := l.list(ctx, true)
	if err != nil {
		return time.Time{}, err
	}
	return now.changed, nil
}
