package fileblobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/staging"
)

// maxStaged is how many blobs are staged before a flush begins by itself. At
// twice as many writers wait for it.
const maxStaged = 4096

// flushSome sees to it that not too many blobs are staged, without waiting for
// the disk if that can be.
func (s *Store) flushSome(ctx context.Context, staged int) error {
	switch {
	case staged < s.limit:
		return nil
	case staged >= 2*s.limit:
		return s.Flush(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.background || s.closed {
		return nil
	}
	s.background = true
	s.flushes.Go(func() {
		_ = s.Flush(context.WithoutCancel(ctx)) // its error is in s.broken
		s.mu.Lock()
		s.background = false
		s.mu.Unlock()
	})
	return nil
}

// Flush implements [castore.BlobService].
func (s *Store) Flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.mu.Lock()
	staged := make(map[castore.Digest]uint64, len(s.staged))
	for d, number := range s.staged {
		staged[d] = number
	}
	err := s.broken
	if err == nil {
		s.sealing, s.open = s.open, nil
	}
	packing := s.sealing
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("flush blobs: an earlier write failed: %w", err)
	}
	err = s.flush(staged, packing)
	s.mu.Lock()
	s.sealing = nil
	s.mu.Unlock()
	if packing != nil {
		packing.writer.Drop()
	}
	if err == nil && packing != nil {
		// Only speed depends on it; it is done again after the next flush.
		_ = s.packs.Merge(ctx, mergeLimit, s.packFile)
	}
	if err != nil {
		err = fmt.Errorf("flush blobs: %w", err)
		s.mu.Lock()
		s.broken = err
		s.mu.Unlock()
	}
	return err
}

// flush gives the staged blobs their names once their contents are on the disk.
func (s *Store) flush(staged map[castore.Digest]uint64, p *packing) error {
	if p != nil {
		if err := s.seal(p, staged); err != nil {
			return err
		}
	}
	s.mu.Lock()
	st := s.staging // not nil if anything is staged
	s.mu.Unlock()
	if len(staged) > 0 {
		if err := s.syncStaged(st, staged); err != nil {
			return err
		}
	}
	for d, number := range staged {
		if err := s.name(st, d, number); err != nil {
			return err
		}
	}
	s.mu.Lock()
	shards, newDir, pack := s.unsaved, s.newDir, s.unsavedPack
	s.unsaved, s.newDir, s.unsavedPack = [256]bool{}, false, false
	s.mu.Unlock()
	var dirs []string
	if pack {
		dirs = append(dirs, s.packs.Dir())
	}
	for i, unsaved := range shards {
		if unsaved {
			dirs = append(dirs, fmt.Sprintf("%s/%02x", s.dir, i))
		}
	}
	if len(dirs) == 0 {
		return nil
	}
	if newDir {
		return staging.SyncAll(s.dir)
	}
	return staging.Sync(s.dir, append(dirs, s.dir)) // another process may have made a shard
}

// name renames a staged file to the name of its blob. It is in staged until it
// has its name, so that whoever looks there first and then for the name finds
// it.
func (s *Store) name(st *staging.Dir, d castore.Digest, number uint64) error {
	from, to := st.Path(number), s.path(d)
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.Mkdir(filepath.Dir(to), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		err = os.Rename(from, to)
	}
	if err != nil {
		return err
	}
	_ = os.Rename(from+sumsSuffix, to+sumsSuffix) // if there are any; they are made again if they get lost
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsaved[d[0]] = true
	delete(s.staged, d)
	return nil
}

// syncStaged writes the contents of the staged blobs to the disk.
func (s *Store) syncStaged(st *staging.Dir, staged map[castore.Digest]uint64) error {
	if len(staged) > staging.FewSyncs {
		return staging.SyncAll(s.dir)
	}
	var paths []string
	for _, number := range staged {
		paths = append(paths, st.Path(number))
	}
	return staging.Sync(s.dir, paths)
}
