package storefs

import (
	"context"
	"encoding/binary"
	"errors"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"storeboot/internal/bootproto"
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

// mount is the file system as one guest, or this machine's kernel, has mounted
// it: what requests ask, without the form in which they come. It keeps nothing
// but a cache.
type mount struct {
	fs     *FS
	places places
	report func(*bootproto.Report)
}

func newMount(fs *FS, report func(*bootproto.Report)) *mount {
	return &mount{fs: fs, report: report}
}

func putU64(b []byte, v uint64) { binary.NativeEndian.PutUint64(b, v) }

// broken logs an error of the store and gives the guest EIO.
func (m *mount) broken(what string, err error) syscall.Errno {
	if errors.Is(err, errGone) || errors.Is(err, context.Canceled) {
		return syscall.EINTR // nobody waits for the answer
	}
	m.fs.log.Error("cannot serve", "what", what, "error", err)
	return syscall.EIO
}

// lookup writes the fuse_entry_out of a name in a directory. One that does not
// exist has inode 0, which the guest may remember.
func (m *mount) lookup(w waiter, parent uint64, name []byte, out *[entryOutSize]byte) syscall.Errno {
	if parent == rootID {
		return m.lookupTree(w, string(name), out)
	}
	d, _, errno := m.open(w, parent)
	if errno != 0 {
		return errno
	}
	if i := d.lookup(name); i >= 0 {
		place{d, i, parent}.entry(out[:])
	} else {
		missing(out, forever)
	}
	return 0
}

func missing(out *[entryOutSize]byte, ttl time.Duration) {
	clear(out[:])
	putU64(out[16:], uint64(ttl/time.Second))
	binary.NativeEndian.PutUint32(out[32:], uint32(ttl%time.Second))
}

// lookupTree looks a store path up by its exact name.
func (m *mount) lookupTree(w waiter, name string, out *[entryOutSize]byte) syscall.Errno {
	t, err := m.treeNamed(w, name)
	if err != nil {
		return m.broken("path info of "+name, err)
	}
	if t == nil {
		missing(out, m.fs.shown.ttl())
	} else {
		place{t.self, 0, t.id}.entry(out[:])
	}
	return 0
}

// treeNamed is the tree of the store path of that name, nil if there is none.
func (m *mount) treeNamed(w waiter, name string) (*storeTree, error) {
	p, err := storepath.Parse(name)
	if err != nil {
		return nil, nil // no store path: not there
	}
	if c := m.fs.shown.closure; c != nil {
		if t := c[p.Hash]; t != nil && t.path == p {
			return t, nil
		}
		return nil, nil
	}
	// It may come from a substituter, which takes its time, and has limits of
	// its own.
	if m.fs.trees.slow.Load() {
		w.Blocks()
	}
	begin := time.Now()
	info, err := m.fs.trees.infos.Get(w.Context(), p.Hash)
	if time.Since(begin) > slowGet {
		m.fs.trees.slow.Store(true)
	}
	switch {
	case errors.Is(err, pathinfo.ErrNotFound), err == nil && info.StorePath != p:
		return nil, nil
	case err != nil:
		return nil, err
	}
	return m.fs.trees.get(info)
}

// attr returns the attributes of an inode and how long they are valid.
func (m *mount) attr(w waiter, id uint64) (a fuse.Attr, valid time.Duration, errno syscall.Errno) {
	if id != rootID {
		at, errno := m.find(w, id)
		if errno != 0 {
			return a, 0, errno
		}
		a = at.dir.out(at.i).Attr
		a.Ino = id
		return a, forever, 0
	}
	changed, err := m.fs.changed(w.Context())
	if err != nil {
		return a, 0, m.broken("list of store paths", err)
	}
	fillAttr(&a, rootID, castore.Node{Kind: castore.KindDirectory})
	a.Mtime, a.Mtimensec = uint64(changed.Unix()), uint32(changed.Nanosecond())
	a.Ctime, a.Ctimensec = a.Mtime, a.Mtimensec
	return a, m.fs.shown.ttl(), 0
}

// readlink returns the target of a symlink.
func (m *mount) readlink(w waiter, id uint64) (string, syscall.Errno) {
	if id == rootID {
		return "", syscall.EINVAL
	}
	at, errno := m.find(w, id)
	switch {
	case errno != 0:
		return "", errno
	case at.kind() != castore.KindSymlink:
		return "", syscall.EINVAL
	}
	return at.target(), 0
}

// readDir writes the entries of a directory from offset on to b, those of
// READDIRPLUS or READDIR, and returns how many bytes that are.
func (m *mount) readDir(w waiter, id, offset uint64, b []byte, plus bool) (int, syscall.Errno) {
	var d *dir
	var l *listing
	parent := uint64(rootID)
	if id == rootID {
		if m.fs.shown.HideRoot {
			return 0, syscall.EPERM
		}
		var err error
		if l, err = m.fs.list(w, offset == 0); err != nil {
			return 0, m.broken("list of store paths", err)
		}
	} else {
		var errno syscall.Errno
		if d, parent, errno = m.open(w, id); errno != 0 {
			return 0, errno
		}
	}
	n := 0
	for ; offset < dots; offset++ {
		number := id
		if offset == 1 {
			number = parent
		}
		k := dotEntry(b[n:], number, offset+1, plus)
		if k == 0 {
			return n, 0
		}
		n += k
	}
	switch {
	case l != nil && plus:
		n += l.plus(b[n:], l.after(offset))
	case l != nil:
		n += l.plain(b[n:], l.after(offset))
	case offset-dots >= uint64(len(d.children)):
	case plus:
		n += d.plus(b[n:], int(offset-dots), id)
	default:
		n += d.plain(b[n:], int(offset-dots), id)
	}
	return n, 0
}

// statFS is about what the root lists. A store that nobody may list says
// nothing.
func (m *mount) statFS(w waiter) (fuse.StatfsOut, syscall.Errno) {
	out := fuse.StatfsOut{Bsize: blockSize, Frsize: blockSize, NameLen: 255}
	if m.fs.shown.HideRoot {
		return out, 0
	}
	l, err := m.fs.list(w, false)
	if err != nil {
		return out, m.broken("list of store paths", err)
	}
	out.Blocks, out.Files = (l.bytes+blockSize-1)/blockSize, l.nodes
	return out, 0
}

// xattr returns the one extended attribute of an inode; "" for none: symlinks
// and the root have no digest.
func (m *mount) xattr(w waiter, id uint64) (name, value string, errno syscall.Errno) {
	v := &m.fs.shown.View
	if v.DigestPrefix == "" {
		return "", "", syscall.ENOSYS
	}
	if id == rootID {
		return "", "", 0
	}
	at, errno := m.find(w, id)
	if errno != 0 {
		return "", "", errno
	}
	switch at.kind() {
	case castore.KindDirectory:
		return v.DigestPrefix + ".directory.digest", v.Digest(at.digest()), 0
	case castore.KindFile:
		return v.DigestPrefix + ".blob.digest", v.Digest(at.digest()), 0
	}
	return "", "", 0
}

// getXAttr returns the value of an attribute.
func (m *mount) getXAttr(w waiter, id uint64, attr string) (string, syscall.Errno) {
	name, value, errno := m.xattr(w, id)
	switch {
	case errno != 0:
		return "", errno
	case name == "" || attr != name:
		return "", syscall.ENODATA
	}
	return value, 0
}

// listXAttr returns the names of all attributes, each with a NUL behind it.
func (m *mount) listXAttr(w waiter, id uint64) (string, syscall.Errno) {
	name, _, errno := m.xattr(w, id)
	if errno != 0 || name == "" {
		return "", errno
	}
	return name + "\x00", 0
}

// ioctl takes the exit report, from root and on the root directory alone, if
// there is somebody who wants it.
func (m *mount) ioctl(uid uint32, id uint64, cmd uint32, data []byte) syscall.Errno {
	if id != rootID || !bootproto.IsIoctlReport(cmd) || m.report == nil {
		return syscall.ENOTTY
	}
	if uid != 0 {
		return syscall.EPERM
	}
	r, err := bootproto.ParseReport(data)
	if err != nil {
		m.fs.log.Warn("exit report of a guest is refused", "error", err)
		return syscall.EINVAL
	}
	m.report(r)
	return 0
}

// list is the root directory, as it is now if fresh is asked for.
func (fs *FS) list(w waiter, fresh bool) (*listing, error) {
	if fs.shown.root != nil {
		return fs.shown.root, nil
	}
	if fs.trees.slow.Load() {
		w.Blocks()
	}
	return fs.lister.list(w.Context(), fresh)
}

// changed is the root's modification time.
func (fs *FS) changed(ctx context.Context) (time.Time, error) {
	if fs.shown.root != nil {
		return fs.shown.root.changed, nil
	}
	return fs.lister.changed(ctx)
}
