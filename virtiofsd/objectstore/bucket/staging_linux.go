package bucket

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// stagingName is the directory in a local bucket that has one directory for
// each process that writes. No key begins with it.
const stagingName = ".staging"

// staging is the directory of one bucket of this process for files on their
// way. It is locked as long as it is open.
type staging struct {
	dir  *os.File
	next uint64 // the number of the next file; guarded by local.mu
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

// removeIfDead removes a staging directory unless a process holds its lock or
// it belongs to another user.
func removeIfDead(path string) error {
	dir, err := openLocked(path, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	return os.RemoveAll(path)
}

// openLocked opens a directory and locks it until it is closed.
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
	return errors.Join(os.RemoveAll(st.dir.Name()), st.dir.Close())
}
