package blobpack

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/staging"
)

const (
	// fanIn is how many packs of like size are merged: each byte is copied
	// once for each power of it.
	fanIn = 8
	// smallest is up to which size packs are alike, in bytes.
	smallest = 256 << 10
	// deadShare is which part of a pack may be removed blobs: 1/deadShare.
	deadShare = 4
	// merging is the directory whose lock the one who merges has.
	merging = ".merging"
)

// Merge merges packs of like size when there are many, as long as the result is
// no larger than limit, in bytes; 0 is without limit, and then it also writes
// anew packs of which much was removed. newFile makes a file for reading and
// writing on the same file system. Where another process merges it does nothing.
// An error leaves the set as it was.
func (s *Set) Merge(ctx context.Context, limit int64, newFile func() (*os.File, error)) error {
	for {
		// What to do is looked at first without a lock, then with it.
		group, err := s.choose(limit)
		s.releaseAll(group)
		if err != nil || len(group) == 0 {
			return err
		}
		done, err := s.mergeLocked(ctx, limit, newFile)
		if done || err != nil {
			return err
		}
	}
}

func (s *Set) mergeLocked(ctx context.Context, limit int64, newFile func() (*os.File, error)) (done bool, err error) {
	path := filepath.Join(s.dir, merging)
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return true, err
	}
	lock, err := staging.OpenLocked(path, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return true, err
	}
	defer lock.Close()
	s.stale()
	if _, err := s.refresh(); err != nil {
		return true, err
	}
	group, err := s.choose(limit)
	if err != nil || len(group) == 0 {
		return true, err
	}
	defer s.releaseAll(group)
	return false, s.merge(ctx, group, newFile)
}

func (s *Set) releaseAll(group []*pack) {
	for _, p := range group {
		s.release(p)
	}
}

// choose holds and returns packs that are to become one.
func (s *Set) choose(limit int64) ([]*pack, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tiers := map[int][]*pack{}
	for _, p := range s.packs {
		tier := 0
		if p.index.contents > smallest {
			tier = bits.Len64(uint64(p.index.contents/smallest))/3 + 1
		}
		tiers[tier] = append(tiers[tier], p)
	}
	hold := func(group []*pack) []*pack {
		for _, p := range group {
			p.refs++
		}
		return group
	}
	for _, tier := range tiers {
		var total int64
		for _, p := range tier {
			total += p.index.contents
		}
		if len(tier) >= fanIn && (limit == 0 || total <= limit) {
			return hold(tier), nil
		}
	}
	if limit > 0 {
		return nil, nil
	}
	for _, p := range s.packs {
		dead, err := p.dead()
		if err != nil {
			return nil, err
		}
		if dead > 0 && dead >= p.index.contents/deadShare {
			return hold([]*pack{p}), nil
		}
	}
	return nil, nil
}

// dead is how many bytes of a pack are of removed blobs.
func (p *pack) dead() (int64, error) {
	uses, err := p.uses()
	if err != nil || !slices.Contains(uses, removed) {
		return 0, err
	}
	live := int64(0)
	err = p.each(uses, func(_ int, e entry) { live += e.size })
	return p.index.contents - live, err
}

// each calls f for the entries that are not removed.
func (p *pack) each(uses []uint32, f func(i int, e entry)) error {
	b, err := p.index.load()
	if err != nil {
		return p.damaged(err)
	}
	for i := range p.index.count {
		e, err := p.index.decode(b[i*entrySize:])
		if err != nil {
			return p.damaged(err)
		}
		if uses[i] != removed {
			f(i, e)
		}
	}
	return nil
}

// origin is where an entry of a new pack comes from.
type origin struct {
	pack   *pack
	number int
	entry  entry
}

// merge replaces packs by one.
func (s *Set) merge(ctx context.Context, packs []*pack, newFile func() (*os.File, error)) (err error) {
	origins := map[castore.Digest]origin{}
	var order []origin
	for _, p := range packs {
		uses, err := p.uses()
		if err != nil {
			return err
		}
		from := len(order)
		err = p.each(uses, func(i int, e entry) {
			if _, ok := origins[e.digest]; !ok {
				origins[e.digest] = origin{p, i, e}
				order = append(order, origin{p, i, e})
			}
		})
		if err != nil {
			return err
		}
		slices.SortFunc(order[from:], func(a, b origin) int { return cmp.Compare(a.entry.offset, b.entry.offset) })
	}
	path, entries := "", []entry(nil)
	if len(order) > 0 {
		file, err := newFile()
		if err != nil {
			return err
		}
		path = file.Name()
		defer os.Remove(path) // unless it was renamed
		entries, err = write(ctx, file, order)
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return s.replace(packs, path, entries, origins)
}

// write writes a pack and brings it to the disk.
func write(ctx context.Context, file *os.File, order []origin) ([]entry, error) {
	var at int64
	entries := make([]entry, 0, len(order))
	for i := 0; i < len(order); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		// Neighbours are copied at once.
		first, length := order[i], int64(0)
		for ; i < len(order) && order[i].pack == first.pack && order[i].entry.offset == first.entry.offset+length && length < writebackSize; i++ {
			e := order[i].entry
			entries = append(entries, entry{e.digest, at + length, e.size})
			length += e.size
		}
		n, err := io.Copy(io.NewOffsetWriter(file, at), io.NewSectionReader(first.pack.file, first.entry.offset, length))
		if err == nil && n < length {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		at += length
	}
	if _, err := file.WriteAt(encodeIndex(entries, at), at); err != nil {
		return nil, err
	}
	return entries, file.Sync()
}

// replace puts a pack in the place of others. What was used or removed since
// they were read is taken over: the directory is locked.
func (s *Set) replace(packs []*pack, path string, entries []entry, origins map[castore.Digest]origin) error {
	dir, err := staging.OpenLocked(s.dir, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer dir.Close()
	if path != "" {
		uses := make([]uint32, len(entries))
		for i, e := range entries {
			from := origins[e.digest]
			if uses[i], err = from.pack.usedAt(from.number); err != nil {
				return err
			}
			if uses[i] == 0 {
				uses[i] = uint32(from.pack.time.Unix())
			}
		}
		if err := s.put(path, encodeUses(uses)); err != nil {
			return err
		}
		if err := dir.Sync(); err != nil {
			return err // both are there, which is no harm
		}
	}
	for _, p := range packs {
		err = errors.Join(err, os.Remove(p.path+packSuffix), removeIfThere(p.path+usedSuffix))
	}
	err = errors.Join(err, s.removeOrphans())
	s.stale()
	_, refreshed := s.refresh()
	return errors.Join(err, refreshed)
}

// removeOrphans removes files of uses without a pack: of merges that were
// killed. The directory is locked exclusively.
func (s *Set) removeOrphans() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), usedSuffix)
		if !ok {
			continue
		}
		name = filepath.Join(s.dir, name)
		if _, err := os.Lstat(name + packSuffix); errors.Is(err, fs.ErrNotExist) {
			if err := removeIfThere(name + usedSuffix); err != nil {
				return err
			}
		}
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
