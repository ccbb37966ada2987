package storefs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"storeboot/internal/bootproto"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/vhostuser"
)

// mount is the file system as one guest has mounted it, from a FUSE_INIT to the
// next: go-fuse's RawFileSystem. What it does not define here answers ENOSYS.
type mount struct {
	fuse.RawFileSystem // the default: ENOSYS

	ctx     context.Context    // of the request; ends look-ups that it waits for
	request *vhostuser.Request // nil if none of a guest's
	fs      *FS
	inodes  *inodeTable
	root    *root
	report  func(*bootproto.Report)
}

func newMount(ctx context.Context, fs *FS, report func(*bootproto.Report)) *mount {
	return &mount{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		ctx:           ctx, fs: fs, inodes: newInodeTable(), root: newRoot(fs.store.PathInfos), report: report,
	}
}

// blocks is to be called before the request waits for anything but a local file:
// others of its queue go on then.
func (m *mount) blocks() {
	if m.request != nil {
		m.request.Blocks()
	}
}

func (m *mount) String() string { return "storeboot" }

// broken logs an error of the store and gives the guest EIO.
func (m *mount) broken(what string, err error) fuse.Status {
	if m.ctx.Err() == nil {
		m.fs.log.Error("cannot serve", "what", what, "error", err)
	}
	return fuse.EIO
}

// directory returns the contents of a directory inode.
func (m *mount) directory(id uint64) (*castore.Directory, fuse.Status) {
	i := m.inodes.get(id)
	switch {
	case i == nil:
		return nil, fuse.Status(syscall.ESTALE)
	case i.node.Kind != castore.KindDirectory:
		return nil, fuse.ENOTDIR
	}
	dir, err := m.fs.directory(m.ctx, i.node.Digest)
	if err != nil {
		return nil, m.broken("directory "+i.node.Digest.String(), err)
	}
	return dir, fuse.OK
}

func (m *mount) Lookup(_ <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	var node castore.Node
	var ok bool
	ttl, missingTTL := forever, forever
	if header.NodeId == rootID {
		var err error
		if node, ok, err = m.root.lookup(m.ctx, name); err != nil {
			return m.broken("path info of "+name, err)
		}
		missingTTL = rootTTL
	} else {
		dir, status := m.directory(header.NodeId)
		if status != fuse.OK {
			return status
		}
		node, ok = dir.Lookup(name)
	}
	if !ok { // inode 0: "does not exist", which the guest may remember
		*out = fuse.EntryOut{}
		out.SetEntryTimeout(missingTTL)
		return fuse.OK
	}
	fillEntry(out, m.inodes.acquire(header.NodeId, name, node), ttl)
	return fuse.OK
}

func (m *mount) Forget(id, n uint64) { m.inodes.forget(id, n) }

func (m *mount) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if in.NodeId == rootID {
		seconds, err := m.root.time(m.ctx)
		if err != nil {
			return m.broken("list of store paths", err)
		}
		fillAttr(&out.Attr, rootID, castore.Node{Kind: castore.KindDirectory}, seconds)
		out.SetTimeout(rootTTL)
		return fuse.OK
	}
	i := m.inodes.get(in.NodeId)
	if i == nil {
		return fuse.Status(syscall.ESTALE)
	}
	fillAttr(&out.Attr, i.id, i.node, storeTime)
	out.SetTimeout(forever)
	return fuse.OK
}

func (m *mount) Readlink(_ <-chan struct{}, header *fuse.InHeader) ([]byte, fuse.Status) {
	i := m.inodes.get(header.NodeId)
	switch {
	case i == nil:
		return nil, fuse.Status(syscall.ESTALE)
	case i.node.Kind != castore.KindSymlink:
		return nil, fuse.EINVAL
	}
	return []byte(i.node.Target), fuse.OK
}

// Open and OpenDir answer ENOSYS: from then on the kernel opens without asking,
// and keeps its caches from one open to the next.
func (m *mount) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.ENOSYS }

func (m *mount) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	return fuse.ENOSYS
}

func (m *mount) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	i := m.inodes.get(in.NodeId)
	switch {
	case i == nil:
		return nil, fuse.Status(syscall.ESTALE)
	case i.node.Kind == castore.KindDirectory:
		return nil, fuse.Status(syscall.EISDIR)
	case i.node.Kind != castore.KindFile:
		return nil, fuse.EINVAL
	}
	if in.Offset >= i.node.Size {
		return fuse.ReadResultData(nil), fuse.OK
	}
	blob, err := m.fs.blobs.acquire(m.ctx, i.node.Digest)
	if err != nil {
		return nil, m.broken("blob "+i.node.Digest.String(), err)
	}
	r := &blobRead{
		cache: m.fs.blobs, blob: blob, offset: int64(in.Offset),
		size: int(min(uint64(in.Size), i.node.Size-in.Offset)),
	}
	if err := r.prove(i.node.Size); err != nil {
		r.Done()
		return nil, m.broken("blob "+i.node.Digest.String(), err)
	}
	return r, fuse.OK
}

func (m *mount) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return m.readDir(in, func(e fuse.DirEntry, _ castore.Entry) bool { return out.AddDirEntry(e) })
}

func (m *mount) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return m.readDir(in, func(e fuse.DirEntry, child castore.Entry) bool {
		if child.Name == "" { // "." and "..": inode 0, not looked up
			return out.AddDirLookupEntry(e) != nil
		}
		i := m.inodes.acquire(in.NodeId, child.Name, child.Node)
		e.Ino = i.id
		entry := out.AddDirLookupEntry(e)
		if entry == nil {
			m.inodes.forget(i.id, 1)
			return false
		}
		fillEntry(entry, i, forever)
		return true
	})
}

// dots is the number of entries before the first child. The offset of a listing
// is the number of entries before the one that comes next.
const dots = 2

// readDir calls add for the entries from in.Offset on until one does not fit.
func (m *mount) readDir(in *fuse.ReadIn, add func(e fuse.DirEntry, child castore.Entry) bool) fuse.Status {
	children, status := m.children(in.NodeId, max(in.Offset, dots)-dots)
	if status != fuse.OK {
		return status
	}
	for off := in.Offset; off < dots; off++ {
		e := fuse.DirEntry{Name: ".."[:off+1], Mode: syscall.S_IFDIR, Off: off + 1}
		if !add(e, castore.Entry{}) {
			return fuse.OK
		}
	}
	next := max(in.Offset, dots)
	children(func(child castore.Entry, gone bool) bool {
		next++
		if gone {
			return true
		}
		return add(fuse.DirEntry{Name: child.Name, Mode: mode(child.Node), Off: next}, child)
	})
	return fuse.OK
}

// children returns the entries of a directory from position on.
func (m *mount) children(id, position uint64) (func(yield func(castore.Entry, bool) bool), fuse.Status) {
	if id == rootID && m.fs.shown().HideRoot {
		return nil, fuse.EPERM
	}
	if id == rootID {
		entries, err := m.root.list(m.ctx, position)
		if err != nil {
			return nil, m.broken("list of store paths", err)
		}
		return func(yield func(castore.Entry, bool) bool) {
			for _, e := range entries {
				if !yield(e.Entry, e.gone) {
					return
				}
			}
		}, fuse.OK
	}
	dir, status := m.directory(id)
	if status != fuse.OK {
		return nil, status
	}
	entries := dir.Entries()
	entries = entries[min(position, uint64(len(entries))):]
	return func(yield func(castore.Entry, bool) bool) {
		for _, e := range entries {
			if !yield(e, false) {
				return
			}
		}
	}, fuse.OK
}

// StatFs says nothing of sizes: the store may be larger than what is known here.
func (m *mount) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	*out = fuse.StatfsOut{Bsize: blockSize, Frsize: blockSize, NameLen: 255}
	return fuse.OK
}

// Ioctl takes the exit report, from root and on the root directory alone, if
// there is somebody who wants it.
func (m *mount) Ioctl(_ <-chan struct{}, in *fuse.IoctlIn, data []byte, _ *fuse.IoctlOut, _ []byte) fuse.Status {
	if in.NodeId != rootID || !bootproto.IsIoctlReport(in.Cmd) || m.report == nil {
		return fuse.Status(syscall.ENOTTY)
	}
	if in.Uid != 0 {
		return fuse.EPERM
	}
	r, err := bootproto.ParseReport(data)
	if err != nil {
		m.fs.log.Warn("exit report of a guest is refused", "error", err)
		return fuse.EINVAL
	}
	m.report(r)
	return fuse.OK
}
