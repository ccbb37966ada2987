package fileblobs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
)

// stagingName is the directory in the store that has one directory for each
// process that writes.
const stagingName = ".staging"

// staging is the directory of this process for contents on their way. It is
// locked as long as it is open.
type staging struct {
	dir  *os.File
	next uint64 // the number of the next file; guarded by Store.mu
}

func (st *staging) path(number uint64) string {
	return st.dir.Name() + "/" + strconv.FormatUint(number, 10)
}

// newStaging makes a staging directory below parent and removes those that dead
// processes left.
func newStaging(parent string) (*staging, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	// While parent is locked nobody else sees a staging directory between
	// being made and being locked.
	all, err := openLocked(parent, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer all.Close()
	names, err := all.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := removeIfDead(filepath.Join(parent, name)); err != nil {
			return nil, err
		}
	}
	own, err := os.MkdirTemp(parent, "")
	if err != nil {
		return nil, err
	}
	dir, err := openLocked(own, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return nil, err
	}
	return &staging{dir: dir}, nil
}

// removeIfDead removes a staging directory unless a process holds its lock.
func removeIfDead(path string) error {
	dir, err := openLocked(path, unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK), errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil // another user's, or not made by a store
	case err != nil:
		return err
	}
	defer dir.Close()
	return os.RemoveAll(path)
}

// openLocked opens the directory path and locks it until it is closed.
func openLocked(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return f, nil
}

// remove removes the directory with all that was not flushed.
func (st *staging) remove() error {
	err := os.RemoveAll(st.dir.Name())
	return errors.Join(err, st.dir.Close())
}

// newFile makes an empty file in the staging directory.
func (s *Store) newFile() (*os.File, uint64, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, 0, errors.New("write blob: the store is closed")
	}
	if s.staging == nil {
		if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
			s.newDir = true
		}
		st, err := newStaging(filepath.Join(s.dir, stagingName))
		if err != nil {
			s.mu.Unlock()
			return nil, 0, fmt.Errorf("write blob: make a staging directory: %w", err)
		}
		s.staging = st
	}
	number := s.staging.next
	s.staging.next++
	path := s.staging.path(number)
	s.mu.Unlock()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return nil, 0, fmt.Errorf("write blob: %w", err)
	}
	return f, number, nil
}

// stage takes over a closed file of the staging directory as the blob d, and
// says whether it is time for a flush.
func (s *Store) stage(d castore.Digest, number uint64) (full bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, errors.New("write blob: the store is closed")
	}
	if _, ok := s.staged[d]; ok { // another writer was faster
		return false, os.Remove(s.staging.path(number))
	}
	s.staged[d] = number
	return len(s.staged) >= s.limit, nil
}
