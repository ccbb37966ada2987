package fileblobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
)

const (
	// maxStaged is how many blobs are staged before a flush happens by itself.
	maxStaged = 8192
	// fewSyncs is up to how many files are written to the disk one by one
	// with fsync rather than all at once with syncfs, which also writes what
	// other programs have written to the same file system.
	fewSyncs = 8
)

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
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("flush blobs: an earlier write failed: %w", err)
	}
	err = s.flush(staged)
	if err != nil {
		err = fmt.Errorf("flush blobs: %w", err)
		s.mu.Lock()
		s.broken = err
		s.mu.Unlock()
	}
	return err
}

// flush gives the staged blobs their names once their contents are on the disk.
func (s *Store) flush(staged map[castore.Digest]uint64) error {
	if len(staged) > 0 {
		if err := s.syncStaged(staged); err != nil {
			return err
		}
	}
	for d, number := range staged {
		if err := s.name(d, number); err != nil {
			return err
		}
	}
	s.mu.Lock()
	shards, newDir := s.unsaved, s.newDir
	s.unsaved, s.newDir = [256]bool{}, false
	s.mu.Unlock()
	var dirs []string
	for i, unsaved := range shards {
		if unsaved {
			dirs = append(dirs, fmt.Sprintf("%s/%02x", s.dir, i))
		}
	}
	if len(dirs) == 0 {
		return nil
	}
	if newDir {
		return s.syncAll()
	}
	return s.sync(append(dirs, s.dir)) // another process may have made a shard
}

// name renames a staged file to the name of its blob.
func (s *Store) name(d castore.Digest, number uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("the store is closed")
	}
	from, to := s.staging.path(number), s.path(d)
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
	s.unsaved[d[0]] = true
	delete(s.staged, d)
	return nil
}

// syncStaged writes the contents of the staged blobs to the disk.
func (s *Store) syncStaged(staged map[castore.Digest]uint64) error {
	if len(staged) > fewSyncs {
		return s.syncAll()
	}
	var paths []string
	for _, number := range staged {
		paths = append(paths, s.staging.path(number))
	}
	return s.sync(paths)
}

// sync writes files and directories to the disk: one by one if they are few,
// else all of the file system.
func (s *Store) sync(paths []string) error {
	if len(paths) > fewSyncs {
		return s.syncAll()
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// syncAll writes all of the file system to the disk.
func (s *Store) syncAll() error {
	f, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: s.dir, Err: err}
	}
	return nil
}
