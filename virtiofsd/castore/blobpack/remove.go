package blobpack

import (
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/staging"
)

// Items are the blobs whose digest begins with first. One that lies in several
// packs, which a merge that was killed leaves, is there several times.
func (s *Set) Items(first byte) ([]castore.Item, error) {
	if _, err := s.refresh(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.bad != nil {
		return nil, s.bad
	}
	var items []castore.Item
	for _, p := range s.packs {
		var err error
		if items, err = p.items(items, first); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func (p *pack) items(items []castore.Item, first byte) ([]castore.Item, error) {
	from, _, _, err := p.index.find(castore.Digest{first})
	if err != nil {
		return nil, p.damaged(err)
	}
	buf := make([]byte, window*entrySize)
	for from < p.index.count {
		b := buf[:min(window, p.index.count-from)*entrySize]
		if err := p.index.read(b, from); err != nil {
			return nil, p.damaged(err)
		}
		for ; len(b) > 0; from, b = from+1, b[entrySize:] {
			e, err := p.index.decode(b)
			if err != nil {
				return nil, p.damaged(err)
			}
			if e.digest[0] != first {
				return items, nil
			}
			t, err := p.usedAt(from)
			if err != nil {
				return nil, err
			}
			if t != removed {
				items = append(items, castore.Item{Digest: e.digest, Size: e.size, Used: p.usedTime(t)})
			}
		}
	}
	return items, nil
}

// Locked is a set in which nobody notes a use, and nobody else removes.
type Locked struct {
	set    *Set
	exists bool
}

// Exclusive calls f while the set is locked.
func (s *Set) Exclusive(f func(Locked) error) error {
	dir, err := staging.OpenLocked(s.dir, unix.LOCK_EX)
	if errors.Is(err, fs.ErrNotExist) {
		return f(Locked{set: s})
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	s.stale()
	if _, err := s.refresh(); err != nil {
		return err
	}
	return f(Locked{s, true})
}

// each calls f for each entry of a blob that is not removed.
func (l Locked) each(d castore.Digest, f func(p *pack, i int) error) error {
	if !l.exists {
		return nil
	}
	l.set.mu.RLock()
	defer l.set.mu.RUnlock()
	if l.set.bad != nil {
		return l.set.bad
	}
	for _, p := range l.set.packs {
		i, _, ok, err := p.find(d)
		if err == nil && ok {
			err = f(p, i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Used is when a blob was last used, if it is there.
func (l Locked) Used(d castore.Digest) (last time.Time, there bool, err error) {
	err = l.each(d, func(p *pack, i int) error {
		t, err := p.usedAt(i)
		if used := p.usedTime(t); used.After(last) {
			last = used
		}
		there = true
		return err
	})
	return last, there, err
}

// Remove removes a blob from all packs.
func (l Locked) Remove(d castore.Digest) error {
	return l.each(d, func(p *pack, i int) error { return p.setUsed(i, removed) })
}
