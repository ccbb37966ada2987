package gobuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// unused is how long a program is kept that no image was built with.
const unused = 30 * 24 * time.Hour

// Cache is a directory of built programs.
type Cache struct{ dir string }

// NewCache returns the cache in dir, which is made when it is needed; "" is the
// user's own, storeboot/mkinitrd in $XDG_CACHE_HOME or ~/.cache.
func NewCache(dir string) (*Cache, error) {
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find a place for built programs: set XDG_CACHE_HOME or HOME: %w", err)
		}
		dir = filepath.Join(user, "storeboot", "mkinitrd")
	}
	return &Cache{dir: dir}, nil
}

// Dir is the cache's directory.
func (c *Cache) Dir() string { return c.dir }

// Keep returns the file of that key, which build makes if it is not there; it
// may be given the key of anything that is a function of it. Several may be
// made at the same time, also the same one twice. The file must not be changed.
func (c *Cache) Keep(key, name string, build func(file string) error) (string, error) {
	path := c.path(key, name)
	if c.has(path) {
		return path, nil
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return "", err
	}
	return path, c.make(path, build)
}

// Find returns the file of that key, and whether it is there.
func (c *Cache) Find(key, name string) (string, bool) {
	path := c.path(key, name)
	return path, c.has(path)
}

func (c *Cache) path(key, name string) string { return filepath.Join(c.dir, key+"-"+name) }

// file returns the program of that key, which build makes if it is not there,
// and no other process makes it: what a compiler does is not done twice.
func (c *Cache) file(ctx context.Context, key, name string, build func(out string) error) (string, error) {
	path := c.path(key, name)
	if c.has(path) {
		return path, nil
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return "", err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	if c.has(path) {
		return path, nil // another process was faster
	}
	return path, c.make(path, build)
}

// make has build make a file, which appears at path whole, on the disk, or not
// at all.
func (c *Cache) make(path string, build func(file string) error) error {
	tmp, err := os.MkdirTemp(c.dir, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "out")
	if err := build(out); err != nil {
		return err
	}
	// A name without its contents, after a power cut, would be taken for what
	// was built.
	f, err := os.Open(out)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chmod(0o755); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(out, path); err != nil {
		return err
	}
	c.trim()
	return nil
}

// has says whether the program is there, and notes that it was used: once a
// day, to save the write.
func (c *Cache) has(path string) bool {
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() {
		return false
	}
	if now := time.Now(); now.Sub(st.ModTime()) > 24*time.Hour {
		_ = os.Chtimes(path, now, now)
	}
	return true
}

// trim removes programs that were not used for long, and what killed builds
// left. Others may do the same at the same time.
func (c *Cache) trim() {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if st, err := e.Info(); err == nil && e.Name() != lockName && time.Since(st.ModTime()) > unused {
			_ = os.RemoveAll(filepath.Join(c.dir, e.Name()))
		}
	}
}

const lockName = "lock"

// lock waits until no other process builds.
func (c *Cache) lock(ctx context.Context) (func(), error) {
	f, err := os.OpenFile(filepath.Join(c.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			_ = f.Close()
			return nil, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
