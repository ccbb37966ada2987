package storefs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

// View is how a store is shown. The zero value is what is fastest for a whole
// store: the root is listed, and there are no extended attributes, of which the
// kernel learns once and never asks again.
type View struct {
	// Closure, unless it is empty, are the only store paths that there are,
	// together with all that they refer to. Such a root never changes, so that
	// a guest may keep all of it for ever, and one guest sees nothing of what
	// others have.
	Closure []storepath.StorePath
	// HideRoot refuses to list the root directory (EPERM): who knows the name of
	// a store path can use it, and nobody learns of others.
	HideRoot bool
	// RootTTL is how long a guest may take for true, without asking again, that
	// a store path does not exist and what the root lists; 0: a second. It has no
	// meaning for a closure, whose root never changes.
	RootTTL time.Duration
	// DigestPrefix begins the names of the extended attributes with the digests,
	// PREFIX.directory.digest and PREFIX.blob.digest. "" for none.
	DigestPrefix string
	// Digest is the text of a digest in them; nil: its String method.
	Digest func(castore.Digest) string
}

// shown is a view that was looked up.
type shown struct {
	View
	// closure are the trees of View.Closure, nil for the whole store.
	closure map[storepath.Hash]*storeTree
	byID    map[uint64]*storeTree // the same
	root    *listing              // of closure
}

// View returns the file system as v shows it. Both share their caches. Looking a
// closure up fails for a store path that is not in the store, with an error that
// wraps [pathinfo.ErrNotFound].
func (fs *FS) View(ctx context.Context, v View) (*FS, error) {
	if v.Digest == nil {
		v.Digest = castore.Digest.String
	}
	if v.RootTTL <= 0 {
		v.RootTTL = rootTTL
	}
	s := &shown{View: v}
	if len(v.Closure) > 0 {
		if err := s.lookUp(ctx, fs.trees); err != nil {
			return nil, err
		}
	}
	return &FS{shared: fs.shared, shown: s, stats: &Stats{}}, nil
}

// maxClosure bounds the store paths of a closure.
const maxClosure = 1 << 20

func (s *shown) lookUp(ctx context.Context, trees *treeTable) error {
	s.closure, s.byID = map[storepath.Hash]*storeTree{}, map[uint64]*storeTree{}
	var found []*storeTree
	todo := slices.Clone(s.Closure)
	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if s.closure[p.Hash] != nil {
			continue
		}
		if len(s.closure) == maxClosure {
			return fmt.Errorf("the closure has more than %d store paths", maxClosure)
		}
		info, err := trees.infos.Get(ctx, p.Hash)
		if err == nil && info.StorePath != p {
			err = pathinfo.ErrNotFound
		}
		if errors.Is(err, pathinfo.ErrNotFound) {
			return fmt.Errorf("store path %s is %w: import it with 'virtiofsd import' or 'virtiofsd copy --from-nix'", p.Absolute(), err)
		}
		if err != nil {
			return err
		}
		t, err := trees.get(info)
		if err != nil {
			return err
		}
		s.closure[p.Hash], s.byID[t.id] = t, t
		found = append(found, t)
		todo = append(todo, info.References...)
	}
	s.root = newListing(found, time.Unix(storeTime, 0))
	return nil
}

// tree returns the tree with the number id, nil if there is none in the view.
func (s *shown) tree(w waiter, all *treeTable, id uint64) (*storeTree, error) {
	if s.closure == nil {
		return all.find(w, id)
	}
	return s.byID[id], nil
}

// ttl is how long what the root says is valid.
func (s *shown) ttl() time.Duration {
	if s.closure != nil {
		return forever
	}
	return s.RootTTL
}
