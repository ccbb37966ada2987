package ingest

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxOpen is how many directories are open at once. Those further out are
// opened again on the way back, so that the depth of a tree is not bounded by
// the number of files that a process may open.
const maxOpen = 64

// walker goes through a tree and sends it to a pipe.
type walker struct {
	pipe     *pipe
	root     string // the path as the caller gave it
	levels   []level
	progress func(files, bytes int64)
}

// level is a directory on the way from the root to where the walker is.
type level struct {
	name  string
	fd    int // -1 while it is closed
	id    identity
	names []string // entries that are still to be visited, ascending
}

// identity tells files apart and shows whether one has changed.
type identity struct {
	dev, ino     uint64
	mode         uint32
	size         int64
	mtime, ctime unix.Timespec
}

func identityOf(st *unix.Stat_t) identity {
	return identity{uint64(st.Dev), st.Ino, st.Mode, st.Size, st.Mtim, st.Ctim}
}

var errChanged = errors.New("it changed while it was read; try again when nothing writes to it")

// walk sends the tree at path. The path's own directory may be reached through
// symlinks, the path itself is not followed.
func walk(p *pipe, path string, progress func(files, bytes int64)) error {
	w := &walker{pipe: p, root: path, progress: progress}
	defer w.close()
	clean := filepath.Clean(path)
	fd, err := retry(func() (int, error) {
		return unix.Open(filepath.Dir(clean), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	err = w.visit(fd, filepath.Base(clean), "")
	unix.Close(fd)
	for err == nil && len(w.levels) > 0 {
		err = w.step()
	}
	return err
}

func (w *walker) close() {
	for _, l := range w.levels {
		if l.fd >= 0 {
			unix.Close(l.fd)
		}
	}
}

// step visits the next entry of the innermost directory or leaves it.
func (w *walker) step() error {
	top := &w.levels[len(w.levels)-1]
	if len(top.names) == 0 {
		return w.leave()
	}
	name := top.names[0]
	top.names = top.names[1:]
	return w.visit(top.fd, name, name)
}

// wrap names the entry of the innermost directory that err is about.
func (w *walker) wrap(name string, err error) error {
	if errors.Is(err, w.pipe.ctx.Err()) {
		return err
	}
	parts := []string{w.root}
	for i := range w.levels {
		if i > 0 {
			parts = append(parts, w.levels[i].name)
		}
	}
	if name != "" {
		parts = append(parts, name)
	}
	return fmt.Errorf("read %s: %w", strings.Join(parts, "/"), err)
}

// visit sends the node at the path at, relative to dir. name is its name in the
// tree, empty for the root.
func (w *walker) visit(dir int, at, name string) error {
	if err := w.pipe.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, at, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if name != "" && errors.Is(err, unix.ENOENT) {
			err = errChanged // it was in the list
		}
		return w.wrap(name, err)
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = w.enter(dir, at, name, &st)
	case unix.S_IFREG:
		err = w.file(dir, at, name, &st)
	case unix.S_IFLNK:
		err = w.symlink(dir, at, name)
	default:
		err = fmt.Errorf("it is a %s; only files, directories and symlinks can be stored", kindOf(st.Mode))
	}
	if err != nil {
		return w.wrap(name, err)
	}
	return nil
}

func kindOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFBLK:
		return "block device"
	case unix.S_IFCHR:
		return "character device"
	}
	return fmt.Sprintf("file of the unknown type %#o", mode&unix.S_IFMT)
}

func (w *walker) symlink(dir int, at, name string) error {
	buf := make([]byte, 4096) // one more than a target can have
	n, err := unix.Readlinkat(dir, at, buf)
	if err != nil {
		return changedIf(err, unix.EINVAL, unix.ENOENT)
	}
	w.progress(1, 0)
	return send(w.pipe.ctx, w.pipe.events, event{kind: symlink, name: name, target: string(buf[:n])})
}

// enter opens a directory and lists it.
func (w *walker) enter(dir int, at, name string, st *unix.Stat_t) error {
	fd, err := openSame(dir, at, unix.O_DIRECTORY, st)
	if err != nil {
		return err
	}
	names, err := list(fd)
	if err != nil {
		unix.Close(fd)
		return err
	}
	slices.Sort(names)
	if n := len(w.levels) - maxOpen; n >= 0 && w.levels[n].fd >= 0 {
		unix.Close(w.levels[n].fd)
		w.levels[n].fd = -1
	}
	w.levels = append(w.levels, level{name, fd, identityOf(st), names})
	return send(w.pipe.ctx, w.pipe.events, event{kind: beginDirectory, name: name})
}

// leave ends the innermost directory.
func (w *walker) leave() error {
	n := len(w.levels) - 1
	top := w.levels[n]
	if err := unchanged(top.fd, top.id); err != nil {
		return w.wrap("", err)
	}
	if n > 0 && w.levels[n-1].fd < 0 {
		up := &w.levels[n-1]
		fd, err := retry(func() (int, error) {
			return unix.Openat(top.fd, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			return w.wrap("", err)
		}
		up.fd = fd
		if err := unchanged(fd, up.id); err != nil {
			return w.wrap("", err)
		}
	}
	unix.Close(top.fd)
	w.levels = w.levels[:n]
	return send(w.pipe.ctx, w.pipe.events, event{kind: endDirectory})
}

// openSame opens what st describes, read only, without following a symlink.
func openSame(dir int, at string, flags int, st *unix.Stat_t) (int, error) {
	fd, err := retry(func() (int, error) {
		// Should it have become a fifo, opening it must not wait.
		return unix.Openat(dir, at, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, 0)
	})
	if err != nil {
		return -1, changedIf(err, unix.ELOOP, unix.ENOENT, unix.ENOTDIR, unix.ENXIO)
	}
	if err := unchanged(fd, identityOf(st)); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// unchanged compares an open file with what was seen before.
func unchanged(fd int, id identity) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if identityOf(&st) != id {
		return errChanged
	}
	return nil
}

// changedIf explains errors that mean that a file is another one than a moment
// ago.
func changedIf(err error, which ...unix.Errno) error {
	for _, e := range which {
		if errors.Is(err, e) {
			return errChanged
		}
	}
	return err
}

// retry calls f until no signal interrupts it.
func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// list reads the names in a directory.
func list(fd int) ([]string, error) {
	var names []string
	buf := make([]byte, 32<<10)
	for {
		n, err := retry(func() (int, error) { return unix.ReadDirent(fd, buf) })
		if err != nil || n == 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}
