package objectstore

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/objectstore/bucket"
)

// bundleCacheSize is how many bytes of encoded directories are held; in memory
// they take about three times as much.
const bundleCacheSize = 64 << 20

// OpenDirectories opens the directories at an address (package bucket). No
// request is made.
func OpenDirectories(ctx context.Context, url string) (castore.DirectoryService, error) {
	address, err := bucket.ParseAddress(url)
	if err != nil {
		return nil, err
	}
	b, err := bucket.Open(ctx, address)
	if err != nil {
		return nil, err
	}
	return newDirectories(b), nil
}

func newDirectories(b bucket.Bucket) castore.DirectoryService {
	table := &bundleTable{bucket: b, cache: newBundleCache(bundleCacheSize)}
	return &directories{castore.NewDirectoryService(table), table}
}

// directories is the directory service. Closure reads the object of a tree once,
// however many directories it has.
type directories struct {
	castore.DirectoryService
	table *bundleTable
}

// Closure implements [castore.DirectoryService].
func (s *directories) Closure(ctx context.Context, root castore.Digest) iter.Seq2[*castore.Directory, error] {
	return func(yield func(*castore.Directory, error) bool) {
		top, err := s.Get(ctx, root)
		if err != nil {
			yield(nil, err)
			return
		}
		if top.Size() == 0 || root == castore.EmptyBlob {
			yield(top, nil)
			return
		}
		b, err := s.table.find(ctx, root)
		if err != nil {
			yield(nil, fmt.Errorf("get directory %s: %w", root, err))
			return
		}
		seen := map[castore.Digest]bool{root: true}
		for queue := []castore.Digest{root}; len(queue) > 0; queue = queue[1:] {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			dir := b.dirs[queue[0]] // a bundle is whole
			if !yield(dir, nil) {
				return
			}
			for _, e := range dir.Entries() {
				if e.Kind == castore.KindDirectory && !seen[e.Digest] {
					seen[e.Digest] = true
					queue = append(queue, e.Digest)
				}
			}
		}
	}
}

// bundleTable is the table of directories. All rows of one Put are one dirs/
// object.
type bundleTable struct {
	bucket bucket.Bucket
	cache  *bundleCache
	flight singleflight.Group
}

func (t *bundleTable) Get(ctx context.Context, d castore.Digest) ([]byte, error) {
	b, err := t.find(ctx, d)
	if err != nil {
		return nil, err
	}
	return b.dirs[d].Encoded(), nil
}

// find returns a bundle that holds the directory d.
func (t *bundleTable) find(ctx context.Context, d castore.Digest) (*bundle, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if b := t.cache.find(d); b != nil {
		return b, nil
	}
	// The one who asks first may give up without harm to the others: requests
	// have limits of their own.
	result := t.flight.DoChan(string(d[:]), func() (any, error) {
		return t.fetch(context.WithoutCancel(ctx), d)
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*bundle), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fetch gets the bundle whose root is d, else the one that is said to hold d.
func (t *bundleTable) fetch(ctx context.Context, d castore.Digest) (*bundle, error) {
	b, err := t.fetchRoot(ctx, d)
	if !errors.Is(err, bucket.ErrNotFound) {
		return b, err
	}
	raw, err := t.bucket.Get(ctx, innerSpace.key(d), castore.DigestSize)
	if errors.Is(err, bucket.ErrNotFound) {
		return nil, castore.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	root, err := castore.DigestFromBytes(raw)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w: the store is damaged", innerSpace.key(d), t.bucket, err)
	}
	b = t.cache.find(root)
	if b == nil || b.order[0].Digest() != root {
		b, err = t.fetchRoot(ctx, root)
	}
	switch {
	case errors.Is(err, bucket.ErrNotFound): // the tree was removed
		return nil, castore.ErrNotFound
	case err != nil:
		return nil, err
	case b.dirs[d] == nil:
		return nil, fmt.Errorf("%s in %s says that it is below %s, where it is not: the store is damaged", innerSpace.key(d), t.bucket, root)
	}
	return b, nil
}

func (t *bundleTable) fetchRoot(ctx context.Context, root castore.Digest) (*bundle, error) {
	stored, err := t.bucket.Get(ctx, dirSpace.key(root), maxBundle)
	if err != nil {
		return nil, err
	}
	b, err := parseBundle(root, stored)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w: the store is damaged", dirSpace.key(root), t.bucket, err)
	}
	t.cache.add(root, b)
	return b, nil
}

// Put implements [castore.DirectoryTable]. The dirs/ object is written when the
// inner/ objects are there: where it is, all is. One that is there already may
// be snix's, which has no inner/ objects; and those that are there may name a
// root that is gone. So they are written each time.
func (t *bundleTable) Put(ctx context.Context, rows []castore.DirectoryRow) error {
	root := rows[len(rows)-1].Digest
	stored, err := encodeBundle(rows)
	if err != nil {
		return err
	}
	if len(stored) > maxBundle {
		return fmt.Errorf("the tree of %s takes %d bytes, of at most %d", root, len(stored), maxBundle)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(requests)
	for _, row := range rows[:len(rows)-1] {
		if row.Digest == castore.EmptyBlob { // needs none
			continue
		}
		group.Go(func() error { return t.bucket.Put(groupCtx, innerSpace.key(row.Digest), root[:]) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	has, err := t.bucket.Exists(ctx, dirSpace.key(root))
	if err != nil {
		return err
	}
	if !has {
		if err := t.bucket.Put(ctx, dirSpace.key(root), stored); err != nil {
			return err
		}
	}
	return t.bucket.Flush(ctx)
}

func (t *bundleTable) Close() error { return t.bucket.Close() }
