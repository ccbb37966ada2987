package fileblobs

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/staging"
)

var (
	_ castore.Sweeper = (*Store)(nil)
	_ castore.Guard   = (*Store)(nil)
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
	entries, err := os.ReadDir(s.shard(castore.Digest{i}))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var items []castore.Item
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
	return items, nil
}

// Remove implements [castore.Sweeper]. Blobs that are open stay readable.
func (s *Store) Remove(ctx context.Context, items []castore.Item, before time.Time) ([]castore.Item, error) {
	shards := map[byte][]castore.Item{}
	for _, item := range items {
		shards[item.Digest[0]] = append(shards[item.Digest[0]], item)
	}
	var removed []castore.Item
	for _, items := range shards {
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		some, err := s.removeFrom(items, before)
		removed = append(removed, some...)
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// removeFrom removes items of one shard.
func (s *Store) removeFrom(items []castore.Item, before time.Time) (removed []castore.Item, err error) {
	shard, err := staging.OpenLocked(s.shard(items[0].Digest), unix.LOCK_EX)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer shard.Close()
	for _, item := range items {
		path := s.path(item.Digest)
		info, err := os.Lstat(path)
		if err == nil && !info.ModTime().Before(before) {
			continue
		}
		if err == nil {
			err = os.Remove(path)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return removed, err
		default:
			removed = append(removed, item)
		}
	}
	return removed, nil
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
