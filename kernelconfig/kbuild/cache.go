package kbuild

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

// cache is a directory of built kernels, by key.
type cache struct{ dir string }

func openCache(dir string) (*cache, error) {
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find a place for kernels: set XDG_CACHE_HOME or HOME: %w", err)
		}
		dir = filepath.Join(user, "storeboot", "kernels")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a place for kernels: %w", err)
	}
	return &cache{dir}, nil
}

// get returns the kernel, or nil if it is not there.
func (c *cache) get(key string) (*Result, error) {
	dir := filepath.Join(c.dir, key)
	m, err := readManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("kernel in the cache: %w", err)
	}
	return &Result{Dir: dir, Manifest: m, Cached: true}, nil
}

// put has make fill a directory, which then is the kernel's.
func (c *cache) put(key string, make func(dir string) error) (*Result, error) {
	tmp, err := os.MkdirTemp(c.dir, "new-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return nil, err
	}
	if err := make(tmp); err != nil {
		return nil, err
	}
	os.Remove(tmp + ".log")
	dir := filepath.Join(c.dir, key)
	if err := os.RemoveAll(dir); err != nil { // an incomplete one
		return nil, err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return nil, err
	}
	r, err := c.get(key)
	if err == nil && r == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	r.Cached = false
	return r, nil
}

// lockPoll is how often a build that waits for another of the same kernel looks
// whether that has ended.
const lockPoll = 200 * time.Millisecond

// lock keeps other processes from building the same kernel.
func (c *cache) lock(ctx context.Context, key string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.dir, key+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}
