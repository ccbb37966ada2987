package storecache

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

// farDirectories counts the requests for trees and has them pass a gate after
// the first directory.
type farDirectories struct {
	castore.DirectoryService
	gate     gate
	closures atomic.Int32
	gets     atomic.Int32
	broken   atomic.Bool // trees end with an error after the first directory
}

func (s *farDirectories) Get(ctx context.Context, d castore.Digest) (*castore.Directory, error) {
	s.gets.Add(1)
	return s.DirectoryService.Get(ctx, d)
}

func (s *farDirectories) Closure(ctx context.Context, d castore.Digest) iter.Seq2[*castore.Directory, error] {
	s.closures.Add(1)
	return func(yield func(*castore.Directory, error) bool) {
		for dir, err := range s.DirectoryService.Closure(ctx, d) {
			if !yield(dir, err) {
				return
			}
			if err := s.gate.pass(ctx); err != nil || s.broken.Load() {
				yield(nil, errors.Join(err, errBroken))
				return
			}
		}
	}
}

// farTree makes a far store with a tree in which a directory is referred to at
// two depths: its parents-first order reversed is not children first.
func farTree(t *testing.T) (far *farDirectories, dirs []*castore.Directory) {
	t.Helper()
	leaf := castoretest.NewDirectory(t, castore.Entry{Name: "link", Node: castore.Node{Kind: castore.KindSymlink, Target: "x"}})
	middle := castoretest.NewDirectory(t, castoretest.Sub("leaf", leaf))
	root := castoretest.NewDirectory(t, castoretest.Sub("a", leaf), castoretest.Sub("b", middle))
	far = &farDirectories{DirectoryService: castore.NewMemoryDirectories(), gate: newGate()}
	if _, err := castoretest.PutDirectories(far, leaf, middle, root); err != nil {
		t.Fatal(err)
	}
	return far, []*castore.Directory{root, middle, leaf}
}

// TestDirectoryFill holds that a tree is fetched once, is there as it comes, and
// is in near afterwards.
func TestDirectoryFill(t *testing.T) {
	ctx := context.Background()
	far, dirs := farTree(t)
	near := castore.NewMemoryDirectories()
	s := NewDirectories(near, far, nil)
	if _, err := s.Get(ctx, dirs[0].Digest()); err != nil { // while the rest is held back
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 {
		for _, dir := range dirs {
			wg.Go(func() {
				if got, err := s.Get(ctx, dir.Digest()); err != nil || got.Digest() != dir.Digest() {
					t.Errorf("Get: %v", err)
				}
			})
		}
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Get(canceled, dirs[2].Digest()); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled Get: %v", err)
	}
	close(far.gate.open)
	wg.Wait()
	s.(*directories).wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, dir := range dirs {
		if _, err := near.Get(ctx, dir.Digest()); err != nil {
			t.Errorf("near lacks directory %d: %v", i, err)
		}
	}
	if len(s.(*directories).coming) != 0 {
		t.Errorf("%d directories are still said to come", len(s.(*directories).coming))
	}
}

// TestDirectoryFaults holds what is read when near or far fails.
func TestDirectoryFaults(t *testing.T) {
	ctx := context.Background()
	count := func(s castore.DirectoryService, root castore.Digest) (n int, err error) {
		for _, err := range s.Closure(ctx, root) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	t.Run("far breaks off", func(t *testing.T) {
		far, dirs := farTree(t)
		far.broken.Store(true)
		close(far.gate.open)
		near := castore.NewMemoryDirectories()
		s := NewDirectories(near, far, nil)
		defer s.Close()
		// What far gives one by one can be read.
		if n, err := count(s, dirs[0].Digest()); n != 3 || err != nil {
			t.Errorf("the closure has %d directories, %v", n, err)
		}
		if _, err := near.Get(ctx, dirs[0].Digest()); !errors.Is(err, castore.ErrNotFound) {
			t.Errorf("near has the root of a tree that was not whole: %v", err)
		}
	})
	t.Run("near cannot be read", func(t *testing.T) {
		far, dirs := farTree(t)
		close(far.gate.open)
		s := NewDirectories(brokenDirectories{}, far, nil)
		defer s.Close()
		if n, err := count(s, dirs[0].Digest()); n != 3 || err != nil {
			t.Errorf("the closure has %d directories, %v", n, err)
		}
		if _, err := s.Get(ctx, castore.Digest{1}); !errors.Is(err, errBroken) || errors.Is(err, castore.ErrNotFound) {
			t.Errorf("what near may have is said to be missing: %v", err)
		}
	})
	t.Run("near cannot be written", func(t *testing.T) {
		far, dirs := farTree(t)
		close(far.gate.open)
		s := NewDirectories(unwritableDirectories{castore.NewMemoryDirectories()}, far, nil)
		defer s.Close()
		for range 2 {
			if n, err := count(s, dirs[0].Digest()); n != 3 || err != nil {
				t.Errorf("the closure has %d directories, %v", n, err)
			}
		}
		if _, err := s.Put(ctx); !errors.Is(err, errBroken) {
			t.Errorf("Put: %v", err)
		}
	})
	t.Run("near lacks a part", func(t *testing.T) {
		far, dirs := farTree(t)
		close(far.gate.open)
		s := NewDirectories(lackingDirectories{far.DirectoryService, dirs[1].Digest()}, far, nil)
		defer s.Close()
		if n, err := count(s, dirs[0].Digest()); n != 3 || err != nil {
			t.Errorf("the closure has %d directories, %v", n, err)
		}
	})
	t.Run("far lies about sizes", func(t *testing.T) {
		far, dirs := farTree(t)
		close(far.gate.open)
		n := dirs[1].Node()
		n.Size = 100 // of a directory with 2 descendants
		root := castoretest.NewDirectory(t, castore.Entry{Name: "x", Node: n})
		near := castore.NewMemoryDirectories()
		s := NewDirectories(near, onlyRoot{far, root}, nil)
		if _, err := s.Get(ctx, root.Digest()); err != nil {
			t.Fatal(err)
		}
		s.(*directories).wg.Wait()
		defer s.Close()
		if _, err := near.Get(ctx, root.Digest()); !errors.Is(err, castore.ErrNotFound) {
			t.Errorf("near has the tree: %v", err)
		}
	})
	t.Run("too many trees", func(t *testing.T) {
		far, dirs := farTree(t)
		s := NewDirectories(castore.NewMemoryDirectories(), far, nil)
		defer s.Close()
		s.(*directories).trees = maxTrees
		if _, err := s.Get(ctx, dirs[0].Digest()); err != nil || far.closures.Load() != 0 || far.gets.Load() != 1 {
			t.Errorf("%v, %d trees fetched, %d directories", err, far.closures.Load(), far.gets.Load())
		}
	})
	t.Run("closed meanwhile", func(t *testing.T) {
		far, dirs := farTree(t)
		s := NewDirectories(castore.NewMemoryDirectories(), far, nil)
		if _, err := s.Get(ctx, dirs[0].Digest()); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil { // does not wait for the gate
			t.Error(err)
		}
		if _, err := s.Get(ctx, dirs[0].Digest()); !errors.Is(err, errClosed) {
			t.Errorf("Get after Close: %v", err)
		}
	})
}

type brokenDirectories struct{ castore.DirectoryService }

func (brokenDirectories) Get(context.Context, castore.Digest) (*castore.Directory, error) {
	return nil, errBroken
}

func (brokenDirectories) Closure(context.Context, castore.Digest) iter.Seq2[*castore.Directory, error] {
	return func(yield func(*castore.Directory, error) bool) { yield(nil, errBroken) }
}

func (brokenDirectories) Put(context.Context) (castore.DirectoryPutter, error) { return nil, errBroken }

type unwritableDirectories struct{ castore.DirectoryService }

func (unwritableDirectories) Put(context.Context) (castore.DirectoryPutter, error) {
	return nil, errBroken
}

// lackingDirectories has lost a directory.
type lackingDirectories struct {
	castore.DirectoryService
	lost castore.Digest
}

func (s lackingDirectories) Get(ctx context.Context, d castore.Digest) (*castore.Directory, error) {
	if d == s.lost {
		return nil, castore.ErrNotFound
	}
	return s.DirectoryService.Get(ctx, d)
}

func (s lackingDirectories) Closure(ctx context.Context, d castore.Digest) iter.Seq2[*castore.Directory, error] {
	return func(yield func(*castore.Directory, error) bool) {
		for dir, err := range s.DirectoryService.Closure(ctx, d) {
			if err == nil && dir.Digest() == s.lost {
				yield(nil, castore.ErrNotFound)
				return
			}
			if !yield(dir, err) {
				return
			}
		}
	}
}

// onlyRoot has a root over the trees of another service, unchecked.
type onlyRoot struct {
	castore.DirectoryService
	root *castore.Directory
}

func (s onlyRoot) Closure(ctx context.Context, d castore.Digest) iter.Seq2[*castore.Directory, error] {
	return func(yield func(*castore.Directory, error) bool) {
		if d != s.root.Digest() || !yield(s.root, nil) {
			return
		}
		s.DirectoryService.Closure(ctx, s.root.Entries()[0].Digest)(yield)
	}
}
