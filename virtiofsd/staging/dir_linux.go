package staging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Name is the directory in a store that has one directory for each process that
// writes.
const Name = ".staging"

// Dir is the staging directory of one writer. It is locked as long as it is
// open. Its methods may be called by several goroutines at once.
type Dir struct {
	dir  *os.File
	next atomic.Uint64 // the number of the next file
}

// New makes a staging directory in the store, which is made if need be, and
// removes those that dead processes left.
//
// A store that cannot be written to shows here first: the error names the way
// out.
func New(store string) (*Dir, error) {
	d, err := newDir(store)
	if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: make it writable or use another store", err)
	}
	return d, err
}

func newDir(store string) (*Dir, error) {
	parent := filepath.Join(store, Name)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	// While parent is locked nobody else sees a staging directory between
	// being made and being locked.
	all, err := OpenLocked(parent, unix.LOCK_EX)
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
	dir, err := OpenLocked(own, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return nil, err
	}
	return &Dir{dir: dir}, nil
}

// removeIfDead removes a staging directory unless a process holds its lock.
func removeIfDead(path string) error {
	dir, err := OpenLocked(path, unix.LOCK_EX|unix.LOCK_NB)
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

// Create makes an empty file, mode 0444, and returns it with its number.
func (d *Dir) Create() (*os.File, uint64, error) {
	number := d.next.Add(1)
	f, err := os.OpenFile(d.Path(number), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	return f, number, err
}

// Path is where the file of a number is.
func (d *Dir) Path(number uint64) string {
	return d.dir.Name() + "/" + strconv.FormatUint(number, 10)
}

// Remove removes the directory with all that is in it, and ends its lock.
func (d *Dir) Remove() error {
	err := os.RemoveAll(d.dir.Name())
	return errors.Join(err, d.dir.Close())
}

// OpenLocked opens the directory path and locks it (flock(2)) until it is
// closed. With LOCK_NB, EWOULDBLOCK says that somebody else has it locked.
func OpenLocked(path string, how int) (*os.File, error) {
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
