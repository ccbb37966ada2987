package storecache

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"

	"storeboot/virtiofsd/castore"
)

const (
	// maxTrees is how many trees are fetched from far at once; what is asked for
	// beyond that is fetched one by one and not stored in near.
	maxTrees = 8
	// maxTree is the largest tree that is fetched whole, as Directory.Size counts: a
	// million are about 100 MB of memory. Of a larger one the parts are
	// fetched as they are asked for.
	maxTree = 1 << 20
)

// directories is the cache of directories.
type directories struct {
	near, far castore.DirectoryService
	log       *slog.Logger
	maxTree   uint64
	ctx       context.Context // of the fetches; ends at Close
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	// mu guards what is below and the fields of trees.
	mu     sync.Mutex
	closed bool
	trees  int
	// coming is the fetch that has or will bring a directory.
	coming map[castore.Digest]*tree
}

// NewDirectories makes a service of near and far; see the package for what it
// does. A directory that only far has is fetched with all below it: near only
// ever holds whole trees. Get returns as soon as the directory itself has come.
// A nil log is told nothing.
func NewDirectories(near, far castore.DirectoryService, log *slog.Logger) castore.DirectoryService {
	s := &directories{near: near, far: far, log: logger(log), maxTree: maxTree, coming: map[castore.Digest]*tree{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Get implements [castore.DirectoryService].
func (s *directories) Get(ctx context.Context, d castore.Digest) (*castore.Directory, error) {
	dir, nearErr := s.near.Get(ctx, d)
	if nearErr == nil {
		return dir, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !errors.Is(nearErr, castore.ErrNotFound) {
		s.log.Warn("near store cannot be read", "error", nearErr)
		dir, err := s.far.Get(ctx, d)
		switch {
		case err == nil:
			return dir, nil
		case errors.Is(err, castore.ErrNotFound): // what near has and cannot give is not missing
			return nil, nearErr
		}
		return nil, errors.Join(nearErr, err)
	}
	t, err := s.fetch(d)
	if err != nil {
		return nil, err
	}
	if t != nil {
		if dir, err := t.wait(ctx, d); dir != nil || err != nil {
			return dir, err
		}
	}
	return s.far.Get(ctx, d)
}

// fetch returns the fetch that brings d, which it may begin. It is nil if there
// are too many.
func (s *directories) fetch(d castore.Digest) (*tree, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch t := s.coming[d]; {
	case s.closed:
		return nil, errClosed
	case t != nil:
		return t, nil
	case s.trees == maxTrees:
		return nil, nil
	}
	t := &tree{of: s, root: d, found: map[castore.Digest]*castore.Directory{}, wanted: map[castore.Digest]uint64{}, news: make(chan struct{})}
	s.coming[d] = t
	s.trees++
	s.wg.Go(func() {
		t.run()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.trees--
	})
	return t, nil
}

// Closure implements [castore.DirectoryService].
func (s *directories) Closure(ctx context.Context, root castore.Digest) iter.Seq2[*castore.Directory, error] {
	return func(yield func(*castore.Directory, error) bool) {
		yielded := map[castore.Digest]bool{}
		from := s.near
		_, err := s.near.Get(ctx, root)
		if errors.Is(err, castore.ErrNotFound) {
			top, err := s.Get(ctx, root)
			if err != nil {
				yield(nil, err)
				return
			}
			from = nil
			if top.Size() > s.maxTree { // is not fetched whole by Get
				from = s.far
			}
		}
		if from != nil {
			for dir, err := range from.Closure(ctx, root) {
				if err != nil && from == s.far {
					yield(nil, err)
					return
				}
				if err != nil {
					s.log.Warn("near store cannot be read", "error", err)
					break
				}
				yielded[dir.Digest()] = true
				if !yield(dir, nil) {
					return
				}
			}
			if from == s.far {
				return
			}
		}
		s.walk(ctx, root, yielded, yield)
	}
}

// walk yields what is not in yielded of a tree, asking for one after another.
func (s *directories) walk(ctx context.Context, root castore.Digest, yielded map[castore.Digest]bool, yield func(*castore.Directory, error) bool) {
	seen := map[castore.Digest]bool{root: true}
	for queue := []castore.Digest{root}; len(queue) > 0; queue = queue[1:] {
		dir, err := s.Get(ctx, queue[0])
		if err != nil {
			yield(nil, err)
			return
		}
		if !yielded[dir.Digest()] && !yield(dir, nil) {
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

// Put implements [castore.DirectoryService].
func (s *directories) Put(ctx context.Context) (castore.DirectoryPutter, error) {
	return s.near.Put(ctx)
}

// Close implements [castore.DirectoryService].
func (s *directories) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
	return nil
}
