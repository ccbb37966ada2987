package narbridge

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/narbridge/uploads"
)

const (
	// lookups is how many blobs are looked for at once.
	lookups = 16
	// fresh is for how long an upload is believed to be there without looking, in a
	// store that cannot keep collections out. It is less than any sensible grace
	// of a collection, which is what holds there; looking costs a round trip for
	// each blob.
	fresh = 10 * time.Minute
)

// present says whether the tree of an upload is in the store, whole. In a store
// that can keep collections out (the caller has to, until the tree has a path
// info) it stays; in another it is as good as stored just now.
func (s *Server) present(ctx context.Context, u uploads.Upload) (bool, error) {
	_, guarded := s.store.Blobs.(castore.Guard)
	if !guarded && time.Since(u.Used) < fresh {
		return true, nil
	}
	var missing atomic.Bool
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookups)
	look := func(n castore.Node) {
		if n.Kind != castore.KindFile || missing.Load() {
			return
		}
		group.Go(func() error {
			ok, err := s.store.Blobs.Has(ctx, n.Digest)
			if err == nil && !ok {
				missing.Store(true)
			}
			return err
		})
	}
	look(u.Node)
	var err error
	if u.Node.Kind == castore.KindDirectory {
		err = s.lookDirectories(ctx, u.Node, !guarded, look)
	}
	err = errors.Join(group.Wait(), err)
	if errors.Is(err, castore.ErrNotFound) {
		return false, nil
	}
	return err == nil && !missing.Load(), err
}

// lookDirectories calls look for all that is in a tree. With again it stores the
// directories once more, so that they count as used.
func (s *Server) lookDirectories(ctx context.Context, root castore.Node, again bool, look func(castore.Node)) error {
	var dirs []*castore.Directory
	for dir, err := range s.store.Directories.Closure(ctx, root.Digest) {
		if err != nil {
			return err
		}
		for _, e := range dir.Entries() {
			look(e.Node)
		}
		if again {
			dirs = append(dirs, dir)
		}
	}
	if !again {
		return nil
	}
	putter, err := s.store.Directories.Put(ctx)
	if err != nil {
		return err
	}
	defer putter.Abort()
	for _, dir := range slices.Backward(dirs) {
		if _, err := putter.Put(dir); err != nil {
			return err
		}
	}
	_, err = putter.Close()
	return err
}
