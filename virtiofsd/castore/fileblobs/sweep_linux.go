package fileblobs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/blobpack"
	"storeboot/virtiofsd/staging"
)

var (
	_ castore.Sweeper = (*Store)(nil)
	_ castore.Guard   = (*Store)(nil)
	_ castore.Tidier  = (*Store)(nil)
)

// touch notes that the blob d, found in the store with that modification time,
// is in use. It returns false if the blob has been removed meanwhile.
//
// The shard's lock makes this and a removal follow one another. One who may not
// write to the store cannot store a reference to the blob either, and notes
// nothing.
func (s *Store) touch(d castore.Digest, mtime time.Time) (bool, error) {
	if time.Since(mtime).Abs() < castore.UsedSlack {
		return true, nil
	}
	shard, err := staging.OpenLocked(s.shard(d), unix.LOCK_SH)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer shard.Close()
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	err = unix.UtimesNanoAt(unix.AT_FDCWD, s.path(d), now, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, unix.EROFS), errors.Is(err, fs.ErrPermission):
		_, err = os.Lstat(s.path(d))
		return err == nil, nil
	}
	return false, &os.PathError{Op: "touch", Path: s.path(d), Err: err}
}

// Items implements [castore.Sweeper]. The empty blob is not listed, nor is what
// is still staged.
func (s *Store) Items(ctx context.Context) iter.Seq2[castore.Item, error] {
	return func(yield func(castore.Item, error) bool) {
		for i := range 256 {
			items, err := s.list(ctx, byte(i))
			if err != nil {
				yield(castore.Item{}, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
		}
	}
}

// list lists the shard i. Names that are not those of blobs are passed over.
func (s *Store) list(ctx context.Context, i byte) ([]castore.Item, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	items, err := s.packs.Items(i)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.shard(castore.Digest{i}))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		d, err := castore.ParseDigest(e.Name())
		if err != nil || d.Hex() != e.Name() || d[0] != i {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		items = append(items, castore.Item{Digest: d, Size: info.Size(), Used: info.ModTime()})
	}
	return once(items), nil
}

// once has each blob once, with its last use.
func once(items []castore.Item) []castore.Item {
	slices.SortFunc(items, func(a, b castore.Item) int {
		return cmp.Or(bytes.Compare(a.Digest[:], b.Digest[:]), b.Used.Compare(a.Used))
	})
	return slices.CompactFunc(items, func(a, b castore.Item) bool { return a.Digest == b.Digest })
}

// Remove implements [castore.Sweeper]. Blobs that are open stay readable.
func (s *Store) Remove(ctx context.Context, items []castore.Item, before time.Time) ([]castore.Item, error) {
	shards := map[byte][]castore.Item{}
	for _, item := range items {
		shards[item.Digest[0]] = append(shards[item.Digest[0]], item)
	}
	var removed []castore.Item
	err := s.packs.Exclusive(func(packs blobpack.Locked) error {
		for _, items := range shards {
			if err := ctx.Err(); err != nil {
				return err
			}
			some, err := s.removeFrom(packs, items, before)
			removed = append(removed, some...)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return removed, err
}

// removeFrom removes items of one shard, which goes on if there is none.
func (s *Store) removeFrom(packs blobpack.Locked, items []castore.Item, before time.Time) (removed []castore.Item, err error) {
	shard, err := staging.OpenLocked(s.shard(items[0].Digest), unix.LOCK_EX)
	if err == nil {
		defer shard.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, item := range items {
		ok, err := s.remove(packs, item.Digest, before)
		if err != nil {
			return removed, err
		}
		if ok {
			removed = append(removed, item)
		}
	}
	return removed, nil
}

// remove removes a blob wherever it is, unless one of its places was used.
func (s *Store) remove(packs blobpack.Locked, d castore.Digest, before time.Time) (bool, error) {
	used, packed, err := packs.Used(d)
	if err != nil || packed && !used.Before(before) {
		return false, err
	}
	path := s.path(d)
	info, err := os.Lstat(path)
	plain := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) || plain && !info.ModTime().Before(before) {
		if plain {
			err = nil
		}
		return false, err
	}
	if packed {
		if err := packs.Remove(d); err != nil {
			return false, err
		}
	}
	if plain {
		_ = os.Remove(path + sumsSuffix) // before: nobody would find it after
		if err := os.Remove(path); err != nil {
			return false, err
		}
	}
	return packed || plain, nil
}

// Tidy implements [castore.Tidier]: it writes packs anew of which much was
// removed.
func (s *Store) Tidy(ctx context.Context) error {
	if err := s.packs.Merge(ctx, 0, s.packFile); err != nil {
		return fmt.Errorf("tidy packs: %w", err)
	}
	return nil
}

// Hold implements [castore.Guard], with a shared lock of the store's directory.
func (s *Store) Hold(ctx context.Context) (func(), error) { return s.lock(ctx, unix.LOCK_SH) }

// Exclude implements [castore.Guard], with an exclusive lock.
func (s *Store) Exclude(ctx context.Context) (func(), error) { return s.lock(ctx, unix.LOCK_EX) }

// lockPause is how long lock waits before it tries again.
const lockPause = 20 * time.Millisecond

func (s *Store) lock(ctx context.Context, how int) (func(), error) {
	if err := s.makeDir(); err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		dir, err := staging.OpenLocked(s.dir, how|unix.LOCK_NB)
		if err == nil {
			return func() { _ = dir.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(lockPause):
		}
	}
}

// makeDir makes the store's directory unless it is there.
func (s *Store) makeDir() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
		s.newDir = true
	}
	return os.MkdirAll(s.dir, 0o755)
}
