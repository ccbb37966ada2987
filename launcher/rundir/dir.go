package rundir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	// controlName is that of other launchers.
	controlName = "control.sock"
	// maxSocketPath is sizeof(sun_path) less the NUL byte (unix(7)).
	maxSocketPath = 107
)

// Base returns the directory in which sessions have theirs: storeboot below
// runtimeDir ($XDG_RUNTIME_DIR), or a directory of this user below temp
// ("/tmp") where there is none or its path is too long for a socket.
func Base(runtimeDir, temp string, uid int) string {
	base := filepath.Join(runtimeDir, baseName)
	if !filepath.IsAbs(runtimeDir) || len(Place(base, "0000000000").Socket()) > maxSocketPath {
		return filepath.Join(temp, fmt.Sprintf("%s-%d", baseName, uid))
	}
	return base
}

// Place names the directory of the VM of that name below base, which need not
// exist.
func Place(base, name string) Dir { return Dir{Path: filepath.Join(base, dirPrefix+name)} }

// Dir is the directory of one VM. Its lock is on the directory itself, so that
// there is no file more to leave behind.
type Dir struct {
	Path string
	lock *os.File
}

// File is the path of a file in it.
func (d Dir) File(name string) string { return filepath.Join(d.Path, name) }

// Socket is the store daemon's.
func (d Dir) Socket() string { return d.File(socketName) }

// Control is the socket by which other launchers speak to the VM's.
func (d Dir) Control() string { return d.File(controlName) }

// Name is the VM's.
func (d Dir) Name() string { return strings.TrimPrefix(filepath.Base(d.Path), dirPrefix) }

// Make makes a VM's directory below base, for the VM of that name or with a new
// name if it is "", and removes those whose owners have died. The lock on base
// orders this against other launchers: a new directory is never seen without
// its lock.
func Make(base, name string) (Dir, error) {
	if err := CheckName(name); name != "" && err != nil {
		return Dir{}, err
	}
	lock, err := lockBase(base)
	if err != nil {
		return Dir{}, fmt.Errorf("make VM directory: %w", err)
	}
	defer lock.Close()
	sweep(base)
	path, err := makePath(base, name)
	if err != nil {
		return Dir{}, err
	}
	f, err := tryLock(path)
	if err != nil {
		_ = os.Remove(path)
		return Dir{}, fmt.Errorf("lock VM directory: %w", err)
	}
	d := Dir{Path: path, lock: f}
	if s := d.Socket(); len(s) > maxSocketPath {
		_ = d.Remove()
		return Dir{}, fmt.Errorf("socket path %s has %d bytes, %d are possible: set XDG_RUNTIME_DIR or TMPDIR to a shorter one", s, len(s), maxSocketPath)
	}
	return d, nil
}

// makePath makes the directory itself.
func makePath(base, name string) (string, error) {
	if name == "" {
		path, err := os.MkdirTemp(base, dirPrefix)
		if err != nil {
			return "", fmt.Errorf("make VM directory: %w", err)
		}
		return path, nil
	}
	path := filepath.Join(base, dirPrefix+name)
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		if s, err := ReadState(path); err == nil && s.Ended != nil {
			return "", fmt.Errorf("there is an ended VM %s: remove it (launcher rm %s), or choose another --name", name, name)
		}
		return "", fmt.Errorf("there is a VM %s: stop it (launcher stop %s), or choose another --name", name, name)
	}
	if err != nil {
		return "", fmt.Errorf("make VM directory: %w", err)
	}
	return path, nil
}

// maxName is in bytes.
const maxName = 32

// CheckName says whether a VM may have that name.
func CheckName(name string) error {
	ok := name != "" && len(name) <= maxName && name[0] != '.' && name[0] != '-'
	for _, c := range name {
		ok = ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("._-", c))
	}
	if !ok {
		return fmt.Errorf("%q is no name of a VM: want 1 to %d letters, digits, dots and dashes", name, maxName)
	}
	return nil
}

// Remove removes the directory with all that is in it.
func (d Dir) Remove() error {
	err := os.RemoveAll(d.Path)
	return errors.Join(err, d.lock.Close())
}

// End removes all but the files that are named, and gives up the lock.
func (d Dir) End(keep ...string) error {
	entries, err := os.ReadDir(d.Path)
	errs := []error{err}
	for _, e := range entries {
		if !slices.Contains(keep, e.Name()) {
			errs = append(errs, os.RemoveAll(d.File(e.Name())))
		}
	}
	return errors.Join(append(errs, d.lock.Close())...)
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

// sweep removes the directories below base that nobody has locked, but for those
// of VMs that ended in order and are kept for whoever asks; of these the oldest
// go. Errors are left for another time: they concern other VMs than this. The
// names of those whose launcher died are returned.
func sweep(base string) (died []string) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return nil
	}
	var kept []Entry
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), dirPrefix) {
			continue
		}
		path := filepath.Join(base, e.Name())
		f, err := tryLock(path)
		if err != nil {
			continue
		}
		if s, err := ReadState(path); err == nil && s.Ended != nil {
			kept = append(kept, Entry{Dir: Dir{Path: path}, State: *s})
		} else if os.RemoveAll(path) == nil {
			died = append(died, Dir{Path: path}.Name())
		}
		_ = f.Close()
	}
	slices.SortFunc(kept, func(a, b Entry) int { return b.Ended.Compare(*a.Ended) })
	for _, e := range kept[min(len(kept), maxEnded):] {
		_ = os.RemoveAll(e.Path)
	}
	return died
}

// maxEnded is how many ended VMs are kept.
const maxEnded = 50

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
