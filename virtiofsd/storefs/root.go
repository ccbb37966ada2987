package storefs

import (
	"context"
	"errors"
	"sync"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

// rootTTL is how long the guest, and we, take the root's listing for valid.
const rootTTL = time.Second

// root is the root directory of one mount.
type root struct {
	infos pathinfo.Service

	mu sync.Mutex
	// entries only grows, so that a position in it stays what it is between
	// two READDIRs; what has left the store is marked.
	entries []rootEntry
	index   map[storepath.StorePath]int
	version uint64 // grows with each change; it is in the root's time
	stale   time.Time
	loaded  bool
}

type rootEntry struct {
	castore.Entry
	gone bool
}

func newRoot(infos pathinfo.Service) *root {
	return &root{infos: infos, index: map[storepath.StorePath]int{}}
}

// lookup finds a store path by its exact name.
func (r *root) lookup(ctx context.Context, name string) (castore.Node, bool, error) {
	p, err := storepath.Parse(name)
	if err != nil {
		return castore.Node{}, false, nil // no store path: not there
	}
	info, err := r.infos.Get(ctx, p.Hash)
	switch {
	case errors.Is(err, pathinfo.ErrNotFound):
		return castore.Node{}, false, nil
	case err != nil:
		return castore.Node{}, false, err
	}
	return info.Node, info.StorePath == p, nil
}

// list returns the entries from position on, having looked at the store if that
// is due. The caller must not change them.
func (r *root) list(ctx context.Context, position uint64) ([]rootEntry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if position == 0 || !r.loaded {
		if err := r.refresh(ctx); err != nil {
			return nil, err
		}
	}
	if position >= uint64(len(r.entries)) {
		return nil, nil
	}
	return r.entries[position:], nil
}

// time is the root's modification time, in seconds. It changes when the listing
// does, which makes the guest's kernel drop its own copy.
func (r *root) time(ctx context.Context) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loaded {
		if err := r.refresh(ctx); err != nil {
			return 0, err
		}
	}
	return 1 + r.version, nil
}

// refresh reads the listing again if it is stale. A large store takes a while
// to list; no more than a twentieth of the time goes into that.
func (r *root) refresh(ctx context.Context) error {
	begin := time.Now()
	if begin.Before(r.stale) {
		return nil
	}
	seen := make([]bool, len(r.entries))
	changed := false
	for info, err := range r.infos.List(ctx) {
		if err != nil {
			return err
		}
		i, known := r.index[info.StorePath]
		switch {
		case !known:
			r.index[info.StorePath] = len(r.entries)
			r.entries = append(r.entries, rootEntry{Entry: castore.Entry{Name: info.StorePath.String(), Node: info.Node}})
			changed = true
		case i < len(seen):
			seen[i] = true
		}
	}
	for i, s := range seen {
		if r.entries[i].gone == s {
			// list has handed out the slice: replace, do not change.
			r.entries = append([]rootEntry(nil), r.entries...)
			r.entries[i].gone = !s
			changed = true
		}
	}
	if changed {
		r.version++
	}
	r.loaded = true
	r.stale = time.Now().Add(max(rootTTL, 20*time.Since(begin)))
	return nil
}
