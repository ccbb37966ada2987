package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// direntBuffer is the buffer for getdents64 in bytes: as large as the largest
// reply of virtio-fs.
const direntBuffer = 1 << 20

func (*machine) List(root string, w io.Writer) error { return list(root, w) }

// list writes the path of everything at and below root to w, one a line, each
// directory before what is in it, in the order of the directories themselves.
// It follows no symbolic link. A directory that cannot be read does not end the
// listing; the first such error is returned after it, with their number.
func list(root string, w io.Writer) error {
	l := lister{w: w, buf: make([]byte, direntBuffer)}
	l.line(root)
	l.dir(root)
	switch {
	case l.writeErr != nil:
		return fmt.Errorf("write the list: %w", l.writeErr)
	case l.failed > 1:
		return fmt.Errorf("%w (and %d more errors)", l.err, l.failed-1)
	}
	return l.err
}

type lister struct {
	w        io.Writer
	buf      []byte
	out      []byte
	writeErr error
	err      error
	failed   int
}

func (l *lister) line(path string) {
	if l.writeErr == nil {
		l.out = append(append(l.out[:0], path...), '\n')
		_, l.writeErr = l.w.Write(l.out)
	}
}

// fail notes an error of the file system.
func (l *lister) fail(what, path string, err error) {
	l.failed++
	if l.err == nil {
		l.err = fmt.Errorf("%s %s: %w", what, path, err)
	}
}

// dir lists what is in path. Only names of one directory a level are in memory,
// and no descriptor is open while a directory below is read.
func (l *lister) dir(path string) {
	names, err := l.read(path)
	if err != nil {
		l.fail("read directory", path, err)
	}
	prefix := strings.TrimSuffix(path, "/") + "/"
	for _, e := range names {
		if l.writeErr != nil {
			return
		}
		child := prefix + e.name
		l.line(child)
		if e.kind == unix.DT_UNKNOWN {
			var st unix.Stat_t
			if err := retryErr(func() error { return unix.Lstat(child, &st) }); err != nil {
				l.fail("look at", child, err)
				continue
			}
			if isType(st.Mode, unix.S_IFDIR) {
				e.kind = unix.DT_DIR
			}
		}
		if e.kind == unix.DT_DIR {
			l.dir(child)
		}
	}
}

type entry struct {
	name string
	kind uint8
}

// read returns the entries of a directory, and those before an error beside it.
func (l *lister) read(path string) ([]entry, error) {
	fd, err := open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var entries []entry
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(fd, l.buf) })
		if err != nil || n == 0 {
			return entries, err
		}
		if entries, err = parseDirents(l.buf[:n], entries); err != nil {
			return entries, err
		}
	}
}

var errDirent = errors.New("the kernel returned a broken directory entry")

// parseDirents appends the entries of a buffer of struct linux_dirent64
// (getdents64(2)), without "." and "..".
func parseDirents(buf []byte, entries []entry) ([]entry, error) {
	const (
		lengthAt = int(unsafe.Offsetof(unix.Dirent{}.Reclen))
		kindAt   = int(unsafe.Offsetof(unix.Dirent{}.Type))
		nameAt   = int(unsafe.Offsetof(unix.Dirent{}.Name))
	)
	for len(buf) > 0 {
		if len(buf) < nameAt {
			return entries, errDirent
		}
		length := int(binary.NativeEndian.Uint16(buf[lengthAt:]))
		if length <= nameAt || length > len(buf) {
			return entries, errDirent
		}
		name, _, _ := bytes.Cut(buf[nameAt:length], []byte{0})
		if s := string(name); s != "." && s != ".." {
			entries = append(entries, entry{s, buf[kindAt]})
		}
		buf = buf[length:]
	}
	return entries, nil
}
