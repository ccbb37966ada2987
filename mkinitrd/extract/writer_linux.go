package extract

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"storeboot/internal/newc"
)

// Writer writes files below one directory.
type Writer struct {
	root *os.File
	log  *slog.Logger
	own  bool // keeps owners and makes devices
	// dirs get their mode and time at the end, or nothing could be put in.
	dirs  []string
	modes map[string]newc.Header
	// Skipped is the number of device nodes that were left out.
	Skipped int
}

// Open returns a Writer to dir, which it makes if it is not there.
func Open(dir string, log *slog.Logger) (*Writer, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return &Writer{root: f, log: log, own: os.Geteuid() == 0, modes: map[string]newc.Header{}}, nil
}

// Close gives the directories their modes and times, and ends the use of w.
func (w *Writer) Close() error {
	var errs []error
	for i := len(w.dirs) - 1; i >= 0; i-- {
		h := w.modes[w.dirs[i]]
		err := w.at(w.dirs[i], func(dir int, name string) error { return w.finish(dir, name, &h) })
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", w.dirs[i], err))
		}
	}
	return errors.Join(append(errs, w.root.Close())...)
}

// resolve opens a directory below the root.
func (w *Writer) resolve(dir string) (int, error) {
	return unix.Openat2(int(w.root.Fd()), "./"+dir, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// parent opens the directory that name is in, and makes it if the image has
// not.
func (w *Writer) parent(name string) (int, error) {
	dir := path.Dir(name)
	fd, err := w.resolve(dir)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	up, err := w.parent(dir)
	if err != nil {
		return -1, err
	}
	defer unix.Close(up)
	if err := unix.Mkdirat(up, path.Base(dir), 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	return w.resolve(dir)
}

func (w *Writer) at(name string, do func(dir int, base string) error) error {
	dir, err := w.parent(name)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return do(dir, path.Base(name))
}

// replace removes what is at the place of a file that is about to be made.
func replace(dir int, base string) error {
	err := unix.Unlinkat(dir, base, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		err = unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// Add writes one entry as name, a clean path without a leading slash; "" is the
// directory itself. The data is that of a regular file, or a link's target.
func (w *Writer) Add(name string, h *newc.Header, data io.Reader) error {
	if name == "" {
		return nil
	}
	if err := w.at(name, func(dir int, base string) error { return w.add(dir, base, name, h, data) }); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (w *Writer) add(dir int, base, name string, h *newc.Header, data io.Reader) error {
	if h.IsDir() {
		return w.directory(dir, base, name, h)
	}
	if err := replace(dir, base); err != nil {
		return err
	}
	switch h.Type() {
	case newc.TypeRegular:
		if err := write(dir, base, unix.O_CREAT|unix.O_EXCL, data); err != nil {
			return err
		}
	case newc.TypeSymlink:
		target, err := io.ReadAll(data)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(strings.TrimRight(string(target), "\x00"), dir, base); err != nil {
			return err
		}
	case newc.TypeFIFO, newc.TypeSocket:
		if err := unix.Mknodat(dir, base, h.Type()|0o600, 0); err != nil {
			return err
		}
	case newc.TypeChar, newc.TypeBlock:
		err := unix.EPERM
		if w.own {
			err, _ = unix.Mknodat(dir, base, h.Type()|0o600, int(unix.Mkdev(h.RDevMajor, h.RDevMinor))).(unix.Errno)
		}
		if err == unix.EPERM {
			w.Skipped++
			w.log.Warn("device node left out: only root makes them", "path", name, "device", fmt.Sprintf("%d:%d", h.RDevMajor, h.RDevMinor))
			return nil
		}
		if err != 0 {
			return err
		}
	default:
		return fmt.Errorf("mode %#o has no file type", h.Mode)
	}
	return w.attributes(dir, base, h)
}

// directory makes one, or takes the one that is there; a link to one goes.
func (w *Writer) directory(dir int, base, name string, h *newc.Header) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = replace(dir, base)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := unix.Mkdirat(dir, base, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	if _, ok := w.modes[name]; !ok {
		w.dirs = append(w.dirs, name)
	}
	w.modes[name] = *h
	return nil
}

// finish gives a directory its attributes, if it is still one: a link that took
// its place is not followed.
func (w *Writer) finish(dir int, base string, h *newc.Header) error {
	fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	perm := h.Perm() &^ 0o6000
	if w.own {
		perm = h.Perm()
		if err := unix.Fchown(fd, int(h.UID), int(h.GID)); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(fd, perm); err != nil {
		return err
	}
	t := unix.Timespec{Sec: int64(h.MTime)}
	return unix.UtimesNanoAt(dir, base, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}

func write(dir int, base string, flags int, data io.Reader) error {
	fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	_, err = io.Copy(f, data)
	return errors.Join(err, f.Close())
}

// Link gives the file old, which was added, one more name. Its data is written
// over the file's if it has any.
func (w *Writer) Link(old, name string, h *newc.Header, data io.Reader) error {
	err := w.at(name, func(dir int, base string) error {
		if old != name {
			if err := replace(dir, base); err != nil {
				return err
			}
			if t := h.Type(); !w.own && (t == newc.TypeChar || t == newc.TypeBlock) {
				return nil // left out, and so was the first
			}
			err := w.at(old, func(from int, first string) error { return unix.Linkat(from, first, dir, base, 0) })
			if err != nil {
				return err
			}
		}
		if h.Size == 0 || h.Type() != newc.TypeRegular {
			return nil
		}
		if err := unix.Fchmodat(dir, base, 0o600, 0); err != nil {
			return err
		}
		if err := write(dir, base, unix.O_TRUNC, data); err != nil {
			return err
		}
		return w.attributes(dir, base, h)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// attributes sets owner, mode and time. The owner comes first: changing it
// takes the set-user-ID bits away.
func (w *Writer) attributes(dir int, base string, h *newc.Header) error {
	if w.own {
		if err := unix.Fchownat(dir, base, int(h.UID), int(h.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	if h.Type() != newc.TypeSymlink {
		perm := h.Perm()
		if !w.own {
			perm &^= 0o6000
		}
		if err := unix.Fchmodat(dir, base, perm, 0); err != nil {
			return err
		}
	}
	t := unix.Timespec{Sec: int64(h.MTime)}
	return unix.UtimesNanoAt(dir, base, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}
