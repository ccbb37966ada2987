package storefs

import (
	"context"
	"encoding/binary"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// RawFileSystem is the file system for go-fuse's own server, which serves one
// mount of it at /dev/fuse, by the same code as [Session] serves guests. ctx
// ends the look-ups that a request may wait for. Exit reports are not taken.
func (fs *FS) RawFileSystem(ctx context.Context) fuse.RawFileSystem {
	return &rawFS{RawFileSystem: fuse.NewDefaultRawFileSystem(), mount: newMount(fs, nil), w: contextWaiter{ctx}}
}

// rawFS gives a mount the form of go-fuse, which handles each request on a
// goroutine of its own. What it does not define here answers ENOSYS.
type rawFS struct {
	fuse.RawFileSystem // the default: ENOSYS

	mount *mount
	w     contextWaiter
	lists sync.Pool // of *[]byte
}

// contextWaiter waits until its context is done, and nobody behind it does.
type contextWaiter struct{ ctx context.Context }

func (w contextWaiter) Context() context.Context { return w.ctx }
func (w contextWaiter) Blocks()                  {}

func (r *rawFS) String() string { return "storeboot" }

// count counts a request that began then.
func (r *rawFS) count(opcode uint32, begin time.Time, errno *syscall.Errno) {
	r.mount.fs.stats.add(opcode, *errno != 0 && *errno != syscall.ENOSYS, time.Since(begin))
}

func (r *rawFS) Init(*fuse.Server) { r.mount.fs.stats.Mounts.Add(1) }

func (r *rawFS) Lookup(_ <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	entry := (*[entryOutSize]byte)(unsafe.Pointer(out)) // the same layout
	var errno syscall.Errno
	defer r.count(opLookup, time.Now(), &errno)
	errno = r.mount.lookup(r.w, header.NodeId, []byte(name), entry)
	return fuse.Status(errno)
}

func (r *rawFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	var errno syscall.Errno
	defer r.count(opGetattr, time.Now(), &errno)
	var valid time.Duration
	out.Attr, valid, errno = r.mount.attr(r.w, in.NodeId)
	out.SetTimeout(valid)
	return fuse.Status(errno)
}

func (r *rawFS) Readlink(_ <-chan struct{}, header *fuse.InHeader) ([]byte, fuse.Status) {
	var target string
	var errno syscall.Errno
	defer r.count(opReadlink, time.Now(), &errno)
	target, errno = r.mount.readlink(r.w, header.NodeId)
	return []byte(target), fuse.Status(errno)
}

// Open and OpenDir answer ENOSYS: from then on the kernel opens without asking,
// and keeps its caches from one open to the next.
func (r *rawFS) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.ENOSYS }

func (r *rawFS) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	return fuse.ENOSYS
}

func (r *rawFS) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	var errno syscall.Errno
	defer r.count(opRead, time.Now(), &errno)
	var b *openBlob
	var n int
	if b, n, errno = r.mount.openRead(r.w, in.NodeId, in.Offset, int(in.Size)); errno != 0 {
		return nil, fuse.Status(errno)
	}
	if n == 0 {
		return fuse.ReadResultData(nil), fuse.OK
	}
	return &blobRead{fs: r.mount.fs, w: r.w, blob: b, offset: int64(in.Offset), size: n}, fuse.OK
}

// blobRead is the answer to a READ: where the contents come from. go-fuse calls
// Readv with its own buffers, so that they go there at once.
type blobRead struct {
	fs     *FS
	w      waiter
	blob   *openBlob
	offset int64
	size   int
}

func (r *blobRead) Size() int { return r.size }
func (r *blobRead) Done()     { r.fs.blobs.release(r.blob) }

// Bytes is for transports without scattered buffers.
func (r *blobRead) Bytes(buf []byte) ([]byte, fuse.Status) {
	n, status := r.Readv([][]byte{buf[:min(len(buf), r.size)]})
	return buf[:n], status
}

// Readv fills dst, which holds no more than Size bytes.
func (r *blobRead) Readv(dst [][]byte) (int, fuse.Status) {
	var s scatter
	for _, b := range dst {
		s.add(b)
	}
	if errno := r.fs.read(r.w, r.blob, &s, r.offset); errno != 0 {
		return 0, fuse.Status(errno)
	}
	return s.size, fuse.OK
}

func (r *rawFS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return r.readDir(opReaddir, in, func(_ []byte, e fuse.DirEntry) bool { return out.AddDirEntry(e) })
}

func (r *rawFS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return r.readDir(opReaddirplus, in, func(entry []byte, e fuse.DirEntry) bool {
		to := out.AddDirLookupEntry(e)
		if to != nil {
			*to = *entryOut(entry)
		}
		return to != nil
	})
}

// readDir reads the entries and adds them one by one: go-fuse's list does not
// take them as they are.
func (r *rawFS) readDir(opcode uint32, in *fuse.ReadIn, add func(entry []byte, e fuse.DirEntry) bool) fuse.Status {
	var errno syscall.Errno
	defer r.count(opcode, time.Now(), &errno)
	buf, _ := r.lists.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	defer r.lists.Put(buf)
	size := min(int(in.Size), maxIO)
	if cap(*buf) < size {
		*buf = make([]byte, size)
	}
	head := 0
	if opcode == opReaddirplus {
		head = entryOutSize
	}
	var n int
	if n, errno = r.mount.readDir(r.w, in.NodeId, in.Offset, (*buf)[:size], head > 0); errno != 0 {
		return fuse.Status(errno)
	}
	for b := (*buf)[:n]; len(b) > 0; {
		d := b[head:]
		length := int(binary.NativeEndian.Uint32(d[16:]))
		e := fuse.DirEntry{
			Ino:  binary.NativeEndian.Uint64(d),
			Off:  binary.NativeEndian.Uint64(d[8:]),
			Mode: binary.NativeEndian.Uint32(d[20:]) << 12,
			Name: string(d[direntSize:][:length]),
		}
		if !add(b, e) {
			break
		}
		b = b[align8(head+direntSize+length):]
	}
	return fuse.OK
}

func (r *rawFS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	var errno syscall.Errno
	defer r.count(opStatfs, time.Now(), &errno)
	*out, errno = r.mount.statFS(r.w)
	return fuse.Status(errno)
}

// GetXAttr and ListXAttr write to dest and return how long the answer is; one
// that is longer than dest is not written (ERANGE).
func (r *rawFS) GetXAttr(_ <-chan struct{}, header *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	value, errno := r.mount.getXAttr(r.w, header.NodeId, attr)
	return xattrAnswer(dest, value, errno)
}

func (r *rawFS) ListXAttr(_ <-chan struct{}, header *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	names, errno := r.mount.listXAttr(r.w, header.NodeId)
	return xattrAnswer(dest, names, errno)
}

func xattrAnswer(dest []byte, s string, errno syscall.Errno) (uint32, fuse.Status) {
	if errno != 0 {
		return 0, fuse.Status(errno)
	}
	if len(dest) < len(s) {
		return uint32(len(s)), fuse.ERANGE
	}
	return uint32(copy(dest, s)), fuse.OK
}

func (r *rawFS) Ioctl(_ <-chan struct{}, in *fuse.IoctlIn, data []byte, _ *fuse.IoctlOut, _ []byte) fuse.Status {
	return fuse.Status(r.mount.ioctl(in.Uid, in.NodeId, in.Cmd, data))
}
