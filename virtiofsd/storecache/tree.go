package storecache

import (
	"context"
	"errors"
	"fmt"

	"storeboot/virtiofsd/castore"
)

// tree is a directory and all below it on the way from far to near. The mutex of
// its service guards the fields; what has come can be had before the rest has.
type tree struct {
	of   *directories
	root castore.Digest

	found  map[castore.Digest]*castore.Directory
	wanted map[castore.Digest]uint64 // sizes of those that were referred to and have not come
	news   chan struct{}             // closed, and replaced, when one has come; closed at the end
	ended  bool
	err    error // why the root cannot be had
}

// wait waits for a directory of the tree. It returns neither a directory nor an
// error if the tree ended without it.
func (t *tree) wait(ctx context.Context, d castore.Digest) (*castore.Directory, error) {
	for {
		t.of.mu.Lock()
		dir, ended, news, err := t.found[d], t.ended, t.news, t.err
		t.of.mu.Unlock()
		switch {
		case dir != nil:
			return dir, nil
		case ended && d == t.root:
			return nil, err
		case ended: // whatever it was: the error may be that of another one
			return nil, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// run fetches the tree and stores it in near.
func (t *tree) run() {
	s := t.of
	err := t.fetch()
	s.mu.Lock()
	if t.found[t.root] == nil {
		t.err = err
		if err == nil {
			t.err = fmt.Errorf("get directory %s: the far store sent nothing", t.root)
		}
	}
	found := t.found
	whole := err == nil && len(t.wanted) == 0
	for d := range t.wanted { // these do not come any more
		t.forget(d)
	}
	s.mu.Unlock()
	if whole {
		if err := t.store(found); err != nil && s.ctx.Err() == nil {
			s.log.Warn("near store takes no directories", "error", err)
		}
	} else if err != nil && !errors.Is(err, castore.ErrNotFound) && s.ctx.Err() == nil {
		s.log.Warn("a tree of the far store cannot be had whole", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.ended = true
	for d := range found {
		t.forget(d)
	}
	t.forget(t.root)
	close(t.news)
}

// forget takes a directory out of those that come with this tree.
func (t *tree) forget(d castore.Digest) {
	if t.of.coming[d] == t {
		delete(t.of.coming, d)
	}
}

// fetch reads the tree.
func (t *tree) fetch() error {
	s := t.of
	for dir, err := range s.far.Closure(s.ctx, t.root) {
		if err != nil {
			return err
		}
		s.mu.Lock()
		err = t.add(dir)
		s.mu.Unlock()
		if err != nil {
			return err
		}
		if dir.Digest() == t.root && dir.Size() > s.maxTree {
			return nil
		}
	}
	return nil
}

// add takes in a directory. That each is one that was asked for, and of the size
// that its parent says, bounds how many there can be.
func (t *tree) add(dir *castore.Directory) error {
	d := dir.Digest()
	if d != t.root || t.found[d] != nil {
		size, ok := t.wanted[d]
		switch {
		case !ok:
			return fmt.Errorf("the far store sent the directory %s, which is not one of the tree %s or came before", d, t.root)
		case !dir.HasSize(size):
			return fmt.Errorf("directory %s has the size %d and not %d, as its parent says", d, dir.Size(), size)
		}
		delete(t.wanted, d)
	}
	t.found[d] = dir
	for _, e := range dir.Entries() {
		if e.Kind != castore.KindDirectory || t.found[e.Digest] != nil {
			continue
		}
		if size, ok := t.wanted[e.Digest]; ok && size != e.Size {
			return fmt.Errorf("two directories of the tree %s say that %s has the sizes %d and %d", t.root, e.Digest, size, e.Size)
		}
		t.wanted[e.Digest] = e.Size
		if t.of.coming[e.Digest] == nil {
			t.of.coming[e.Digest] = t
		}
	}
	close(t.news)
	t.news = make(chan struct{})
	return nil
}

// store puts the whole tree into near, children first.
func (t *tree) store(found map[castore.Digest]*castore.Directory) error {
	p, err := t.of.near.Put(t.of.ctx)
	if err != nil {
		return err
	}
	defer p.Abort()
	type visit struct {
		dir  *castore.Directory
		next int // entry to visit
	}
	entered := map[castore.Digest]bool{t.root: true}
	for stack := []visit{{dir: found[t.root]}}; len(stack) > 0; { // not recursive: trees may be deep
		top := &stack[len(stack)-1]
		if entries := top.dir.Entries(); top.next < len(entries) {
			e := entries[top.next]
			top.next++
			if e.Kind == castore.KindDirectory && !entered[e.Digest] {
				entered[e.Digest] = true
				stack = append(stack, visit{dir: found[e.Digest]})
			}
			continue
		}
		if _, err := p.Put(top.dir); err != nil {
			return err
		}
		stack = stack[:len(stack)-1]
	}
	_, err = p.Close()
	return err
}
