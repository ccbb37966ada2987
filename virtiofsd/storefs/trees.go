package storefs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

// storeTree is what one store path holds, as guests see it.
type storeTree struct {
	path    storepath.StorePath
	id      uint64 // of its top node
	node    castore.Node
	self    *dir   // the top node alone: the entry of the root directory
	narSize uint64 // bytes
}

// treeTable holds the trees that guests were told of, for all of them: which
// inode numbers they have does not depend on who asks.
type treeTable struct {
	infos pathinfo.Service
	slow  atomic.Bool // the store takes its time for one path info

	mu     sync.RWMutex
	byHash map[storepath.Hash]*storeTree
	byID   map[uint64]*storeTree
	wide   uint64 // how many trees have a number of the second form

	searching sync.Mutex
	// earlier is which store path has a number of the first form, as the last
	// search of the whole store has found; nil: more than one.
	earlier  map[uint64]*storepath.Hash
	searched time.Time // when the next search may begin
}

func newTreeTable(infos pathinfo.Service) *treeTable {
	return &treeTable{infos: infos, byHash: map[storepath.Hash]*storeTree{}, byID: map[uint64]*storeTree{}}
}

// get returns the tree of a path info.
func (t *treeTable) get(info *pathinfo.PathInfo) (*storeTree, error) {
	t.mu.RLock()
	known := t.byHash[info.StorePath.Hash]
	t.mu.RUnlock()
	if known != nil && known.node == info.Node && known.path == info.StorePath {
		return known, nil
	}
	entry := castore.Entry{Name: info.StorePath.String(), Node: info.Node}
	self, err := encodeDir([]castore.Entry{entry}, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", info.StorePath, err)
	}
	if treeWidth(info.Node) > 1<<widePositionBits {
		return nil, fmt.Errorf("%s: its tree has more than %d nodes", info.StorePath, uint64(1)<<(widePositionBits-1))
	}
	n := &storeTree{path: info.StorePath, node: info.Node, self: self, narSize: info.NarSize}
	t.mu.Lock()
	defer t.mu.Unlock()
	if again := t.byHash[n.path.Hash]; again != known { // another was first
		if again.node == n.node && again.path == n.path {
			return again, nil
		}
	}
	n.id = narrowTree(n.path.Hash, n.node)
	if n.id == 0 || t.byID[n.id] != nil {
		if t.wide == 1<<wideTreeBits {
			return nil, fmt.Errorf("%s: there are no inode numbers left", info.StorePath)
		}
		n.id = wideFlag | t.wide<<widePositionBits
		t.wide++
	}
	t.byHash[n.path.Hash], t.byID[n.id] = n, n
	return n, nil
}

// find returns the tree with the number id, nil if there is none. A number of
// the first form that is not known was given by a daemon before this one, and is
// looked for among all store paths. Guests can make that happen, so it is not
// done often.
func (t *treeTable) find(w waiter, id uint64) (*storeTree, error) {
	t.mu.RLock()
	n := t.byID[id]
	t.mu.RUnlock()
	if n != nil || id&wideFlag != 0 || id == 0 {
		return n, nil
	}
	w.Blocks()
	ctx := w.Context()
	hash, err := t.search(ctx, id)
	if err != nil || hash == nil {
		return nil, err
	}
	info, err := t.infos.Get(ctx, *hash)
	switch {
	case errors.Is(err, pathinfo.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if n, err = t.get(info); err != nil || n.id != id { // others are stored there now
		return nil, err
	}
	return n, nil
}

// search finds the store path whose tree has the number id, of the first form.
// Of two that may be meant neither is taken: wrong contents are worse than none.
func (t *treeTable) search(ctx context.Context, id uint64) (*storepath.Hash, error) {
	t.searching.Lock()
	defer t.searching.Unlock()
	begin := time.Now()
	if hash, ok := t.earlier[id]; ok || begin.Before(t.searched) {
		return hash, nil
	}
	found := map[uint64]*storepath.Hash{}
	for info, err := range t.infos.List(ctx) {
		if err != nil {
			return nil, err
		}
		n := narrowTree(info.StorePath.Hash, info.Node)
		if _, twice := found[n]; twice {
			found[n] = nil
		} else {
			hash := info.StorePath.Hash
			found[n] = &hash
		}
	}
	t.earlier, t.searched = found, time.Now().Add(max(time.Second, 20*time.Since(begin)))
	return found[id], nil
}
