package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// baseName is the directory for sessions, below the runtime directory.
	baseName = "storeboot"
	// dirPrefix begins the name of a session's directory.
	dirPrefix = "vm-"
	// socketName is the store daemon's socket in it.
	socketName = "store.sock"
	// maxSocketPath is sizeof(sun_path) less the NUL byte (unix(7)).
	maxSocketPath = 107
)

// Base returns the directory in which sessions have theirs: storeboot below
// runtimeDir ($XDG_RUNTIME_DIR), or a directory of this user below temp
// ("/tmp") where there is none or its path is too long for a socket.
func Base(runtimeDir, temp string, uid int) string {
	base := filepath.Join(runtimeDir, baseName)
	if !filepath.IsAbs(runtimeDir) || len(Place(base, "vm-0000000000").socket()) > maxSocketPath {
		return filepath.Join(temp, fmt.Sprintf("%s-%d", baseName, uid))
	}
	return base
}

// Place names the session's directory of that name below base, which need not
// exist.
func Place(base, name string) Dir { return Dir{Path: filepath.Join(base, name)} }

// Dir is the directory of one session. Its lock is on the directory itself, so
// that there is no file more to leave behind.
type Dir struct {
	Path string
	lock *os.File
}

func (d Dir) file(name string) string { return filepath.Join(d.Path, name) }
func (d Dir) socket() string          { return d.file(socketName) }

// makeDir makes a session's directory below base, and removes those whose
// owners have died. The lock on base orders this against other launchers: a
// new directory is never seen without its lock.
func makeDir(base string) (Dir, error) {
	lock, err := lockBase(base)
	if err != nil {
		return Dir{}, fmt.Errorf("make session directory: %w", err)
	}
	defer lock.Close()
	sweep(base)
	path, err := os.MkdirTemp(base, dirPrefix)
	if err != nil {
		return Dir{}, fmt.Errorf("make session directory: %w", err)
	}
	f, err := tryLock(path)
	if err != nil {
		_ = os.Remove(path)
		return Dir{}, fmt.Errorf("lock session directory: %w", err)
	}
	d := Dir{Path: path, lock: f}
	if s := d.socket(); len(s) > maxSocketPath {
		_ = d.remove()
		return Dir{}, fmt.Errorf("socket path %s has %d bytes, %d are possible: set XDG_RUNTIME_DIR or TMPDIR to a shorter one", s, len(s), maxSocketPath)
	}
	return d, nil
}

// remove removes the directory with all that is in it.
func (d Dir) remove() error {
	err := os.RemoveAll(d.Path)
	return errors.Join(err, d.lock.Close())
}

// lockBase makes base, makes sure that it is this user's alone, and locks it.
func lockBase(base string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(base), 0o700); err != nil {
		return nil, err
	}
	if err := os.Mkdir(base, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	f, err := os.OpenFile(base, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil {
		err = ownedAlone(base, st)
	}
	if err == nil {
		err = flock(f, unix.LOCK_EX)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func ownedAlone(path string, st fs.FileInfo) error {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || int(sys.Uid) != os.Geteuid() || st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is open to other users: remove it, or set XDG_RUNTIME_DIR", path)
	}
	return nil
}

// sweep removes the session directories below base that nobody has locked.
// Errors are left for another time: they concern other sessions than this.
func sweep(base string) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), dirPrefix) {
			continue
		}
		path := filepath.Join(base, e.Name())
		f, err := tryLock(path)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(path)
		_ = f.Close()
	}
}

// tryLock locks the directory at path if nobody has.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
	}
}
