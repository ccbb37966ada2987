package bucket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"storeboot/virtiofsd/staging"
)

// Flush implements [Bucket].
func (l *local) Flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.flushing.Lock()
	defer l.flushing.Unlock()
	l.mu.Lock()
	staged := maps.Clone(l.staged)
	err := l.broken
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("flush bucket %s: an earlier write failed: %w", l, err)
	}
	if err := l.flush(staged); err != nil {
		err = fmt.Errorf("flush bucket %s: %w", l, err)
		l.mu.Lock()
		l.broken = err
		l.mu.Unlock()
		return err
	}
	return nil
}

// flush gives the staged files their names once their contents are on the disk.
func (l *local) flush(staged map[string]uint64) error {
	var paths []string
	for _, number := range staged {
		paths = append(paths, l.staging.Path(number))
	}
	if err := staging.Sync(l.dir, paths); err != nil {
		return err
	}
	for key, number := range staged {
		if err := l.name(key, number); err != nil {
			return err
		}
	}
	l.mu.Lock()
	dirs := slices.Collect(maps.Keys(l.unsaved))
	clear(l.unsaved)
	l.mu.Unlock()
	return staging.Sync(l.dir, dirs)
}

// name gives a staged file the name of its object.
func (l *local) name(key string, number uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	if l.staged[key] != number {
		return nil // replaced meanwhile: the next flush names the later one
	}
	from, to := l.staging.Path(number), l.path(key)
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		err = os.Rename(from, to)
	}
	if err != nil {
		return err
	}
	// Any directory on the way may be new, by us or by another process.
	for dir := filepath.Dir(to); len(dir) >= len(l.dir); dir = filepath.Dir(dir) {
		l.unsaved[dir] = true
		if dir == "/" {
			break
		}
	}
	delete(l.staged, key)
	return nil
}
