package storefs

import (
	"bytes"
	"encoding/binary"
	"syscall"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"storeboot/virtiofsd/vhostuser"
)

// FUSE opcodes (Linux, uapi/linux/fuse.h).
const (
	opLookup        = 1
	opForget        = 2
	opGetattr       = 3
	opSetattr       = 4
	opReadlink      = 5
	opSymlink       = 6
	opMknod         = 8
	opMkdir         = 9
	opUnlink        = 10
	opRmdir         = 11
	opRename        = 12
	opLink          = 13
	opRead          = 15
	opWrite         = 16
	opStatfs        = 17
	opSetxattr      = 21
	opGetxattr      = 22
	opListxattr     = 23
	opRemovexattr   = 24
	opInit          = 26
	opReaddir       = 28
	opCreate        = 35
	opInterrupt     = 36
	opDestroy       = 38
	opIoctl         = 39
	opBatchForget   = 42
	opFallocate     = 43
	opReaddirplus   = 44
	opRename2       = 45
	opCopyFileRange = 47
	opTmpfile       = 51
)

// answer writes the answer to a request and returns how many bytes that are, or
// the error that the answer is to be.
//
// OPEN, OPENDIR and what else is not named here answer ENOSYS: from then on the
// kernel does without, and keeps its caches from one open to the next. FORGET
// has no answer, and nothing to forget: numbers are found without having been
// kept.
func (s *Session) answer(h *handler, r *vhostuser.Request, opcode uint32, req []byte) (int, syscall.Errno) {
	id, arg := binary.NativeEndian.Uint64(req[16:]), req[inHeaderSize:]
	switch opcode {
	case opLookup:
		name, ok := cutName(arg)
		if !ok {
			return 0, syscall.EIO
		}
		if errno := s.mount.lookup(r, id, name, (*[entryOutSize]byte)(h.reply[outHeaderSize:])); errno != 0 {
			return 0, errno
		}
		return h.send(r, req, entryOutSize)
	case opGetattr:
		return s.getattr(h, r, req, id)
	case opRead:
		return s.read(h, r, req, id, arg)
	case opReaddir, opReaddirplus:
		return s.readDir(h, r, req, id, arg, opcode == opReaddirplus)
	case opReadlink:
		target, errno := s.mount.readlink(r, id)
		if errno != 0 {
			return 0, errno
		}
		return h.sendString(r, req, target)
	case opForget, opBatchForget, opInterrupt:
		return 0, 0
	case opStatfs:
		out, errno := s.mount.statFS(r)
		if errno != 0 {
			return 0, errno
		}
		return h.send(r, req, copy(h.reply[outHeaderSize:], unsafe.Slice((*byte)(unsafe.Pointer(&out)), unsafe.Sizeof(out))))
	case opGetxattr, opListxattr:
		return s.xattr(h, r, req, id, arg, opcode == opListxattr)
	case opInit:
		return s.init(h, r, req, arg)
	case opDestroy:
		return h.send(r, req, 0)
	case opIoctl:
		return s.ioctl(h, r, req, id, arg)
	case opSetattr, opSymlink, opMknod, opMkdir, opUnlink, opRmdir, opRename, opLink, opWrite, opCreate,
		opFallocate, opRename2, opCopyFileRange, opTmpfile:
		// What a read-only mount answers by itself: a guest that mounts it
		// read-write learns it here.
		return 0, syscall.EROFS
	}
	return 0, syscall.ENOSYS
}

// cutName is the name before the NUL.
func cutName(arg []byte) (name []byte, ok bool) {
	i := bytes.IndexByte(arg, 0)
	if i < 0 {
		return nil, false
	}
	return arg[:i], true
}

// send sends h.reply with n bytes behind the header.
func (h *handler) send(r *vhostuser.Request, req []byte, n int) (int, syscall.Errno) {
	n += outHeaderSize
	fillHeader(h.reply[:], n, 0, req)
	h.to.reset()
	h.to.from(r.Writable, 0, n)
	if h.to.size < n {
		return 0, syscall.EIO
	}
	return h.to.write(h.reply[:n]), 0
}

// sendString sends s behind a header.
func (h *handler) sendString(r *vhostuser.Request, req []byte, s string) (int, syscall.Errno) {
	h.to.reset()
	h.to.from(r.Writable, outHeaderSize, len(s))
	if h.to.size < len(s) {
		return 0, syscall.EIO
	}
	h.to.write(unsafe.Slice(unsafe.StringData(s), len(s)))
	return writeHeader(r.Writable, outHeaderSize+len(s), 0, req), 0
}

func (s *Session) getattr(h *handler, r *vhostuser.Request, req []byte, id uint64) (int, syscall.Errno) {
	a, valid, errno := s.mount.attr(r, id)
	if errno != 0 {
		return 0, errno
	}
	out := h.reply[outHeaderSize:][:16+attrSize]
	putU64(out, uint64(valid/time.Second))
	putU64(out[8:], uint64(valid%time.Second))
	copy(out[16:], unsafe.Slice((*byte)(unsafe.Pointer(&a)), attrSize))
	return h.send(r, req, len(out))
}

func (s *Session) read(h *handler, r *vhostuser.Request, req []byte, id uint64, arg []byte) (int, syscall.Errno) {
	if len(arg) < 24 {
		return 0, syscall.EIO
	}
	offset, size := binary.NativeEndian.Uint64(arg[8:]), int(binary.NativeEndian.Uint32(arg[16:]))
	if size > maxIO {
		return 0, syscall.EIO
	}
	h.to.reset()
	h.to.from(r.Writable, outHeaderSize, size)
	if h.to.size < size {
		return 0, syscall.EIO
	}
	blob, n, errno := s.mount.openRead(r, id, offset, size)
	if errno != 0 {
		return 0, errno
	}
	if n > 0 {
		if n < size {
			h.to.reset()
			h.to.from(r.Writable, outHeaderSize, n)
		}
		errno = s.mount.fs.read(r, blob, &h.to, int64(offset))
		s.mount.fs.blobs.release(blob)
		if errno != 0 {
			return 0, errno
		}
	}
	return writeHeader(r.Writable, outHeaderSize+n, 0, req), 0
}

func (s *Session) readDir(h *handler, r *vhostuser.Request, req []byte, id uint64, arg []byte, plus bool) (int, syscall.Errno) {
	if len(arg) < 24 {
		return 0, syscall.EIO
	}
	offset, size := binary.NativeEndian.Uint64(arg[8:]), min(int(binary.NativeEndian.Uint32(arg[16:])), maxIO)
	h.to.reset()
	h.to.from(r.Writable, outHeaderSize, size)
	if len(h.to.pieces) == 1 { // as Linux has it
		n, errno := s.mount.readDir(r, id, offset, piece(&h.to.pieces[0]), plus)
		if errno != 0 {
			return 0, errno
		}
		return writeHeader(r.Writable, outHeaderSize+n, 0, req), 0
	}
	if len(h.list) < h.to.size {
		h.list = make([]byte, h.to.size)
	}
	n, errno := s.mount.readDir(r, id, offset, h.list[:h.to.size], plus)
	if errno != 0 {
		return 0, errno
	}
	h.to.write(h.list[:n])
	return writeHeader(r.Writable, outHeaderSize+n, 0, req), 0
}

func (s *Session) xattr(h *handler, r *vhostuser.Request, req []byte, id uint64, arg []byte, list bool) (int, syscall.Errno) {
	if len(arg) < 8 {
		return 0, syscall.EIO
	}
	size := binary.NativeEndian.Uint32(arg)
	var value string
	var errno syscall.Errno
	if list {
		value, errno = s.mount.listXAttr(r, id)
	} else {
		name, ok := cutName(arg[8:])
		if !ok {
			return 0, syscall.EIO
		}
		value, errno = s.mount.getXAttr(r, id, string(name))
	}
	switch {
	case errno != 0:
		return 0, errno
	case size == 0: // how long it is
		putU64(h.reply[outHeaderSize:], 0)
		binary.NativeEndian.PutUint32(h.reply[outHeaderSize:], uint32(len(value)))
		return h.send(r, req, 8)
	case uint64(size) < uint64(len(value)):
		return 0, syscall.ERANGE
	}
	return h.sendString(r, req, value)
}

// wanted is what we want of a kernel that can. AUTO_INVAL_DATA makes it ask for
// the root's time before it takes its own copy of the listing.
const wanted = fuse.CAP_ASYNC_READ | fuse.CAP_BIG_WRITES | fuse.CAP_AUTO_INVAL_DATA | fuse.CAP_READDIRPLUS |
	fuse.CAP_NO_OPEN_SUPPORT | fuse.CAP_PARALLEL_DIROPS | fuse.CAP_MAX_PAGES | fuse.CAP_CACHE_SYMLINKS |
	fuse.CAP_NO_OPENDIR_SUPPORT | fuse.CAP_INIT_EXT

const (
	fuseMajor = 7
	// minMinor is the minor version of Linux 5.4, the first with virtio-fs;
	// maxMinor is that whose messages we know.
	minMinor = 31
	maxMinor = 38
	// maxBackground is how many reads ahead may be under way: as many as there
	// can be.
	maxBackground = 1<<16 - 1
)

// init begins a mount. A guest that boots again on the same connection sends a
// second FUSE_INIT.
func (s *Session) init(h *handler, r *vhostuser.Request, req, arg []byte) (int, syscall.Errno) {
	if len(arg) < 8 {
		return 0, syscall.EINVAL
	}
	minor := binary.NativeEndian.Uint32(arg[4:])
	if binary.NativeEndian.Uint32(arg) != fuseMajor || minor < minMinor {
		return 0, syscall.EPROTO // no kernel with virtio-fs
	}
	if len(arg) < 16 {
		return 0, syscall.EINVAL
	}
	out := h.reply[outHeaderSize:][:64]
	clear(out)
	binary.NativeEndian.PutUint32(out[0:], fuseMajor)
	binary.NativeEndian.PutUint32(out[4:], min(minor, maxMinor))
	copy(out[8:12], arg[8:12]) // as much read-ahead as it likes
	binary.NativeEndian.PutUint32(out[12:], binary.NativeEndian.Uint32(arg[12:])&wanted)
	binary.NativeEndian.PutUint16(out[16:], maxBackground)
	binary.NativeEndian.PutUint16(out[18:], maxBackground/4*3)
	binary.NativeEndian.PutUint32(out[20:], maxIO)
	binary.NativeEndian.PutUint32(out[24:], 1) // time stamps are exact
	binary.NativeEndian.PutUint16(out[28:], maxIO/4096)
	n, errno := h.send(r, req, len(out))
	if errno == 0 {
		s.mount.fs.stats.Mounts.Add(1)
		if s.events.Mounted != nil {
			s.events.Mounted()
		}
	}
	return n, errno
}

func (s *Session) ioctl(h *handler, r *vhostuser.Request, req []byte, id uint64, arg []byte) (int, syscall.Errno) {
	const fixed = 32
	if len(arg) < fixed {
		return 0, syscall.EIO
	}
	cmd, size := binary.NativeEndian.Uint32(arg[12:]), binary.NativeEndian.Uint32(arg[24:])
	if uint64(size) > uint64(len(arg)-fixed) {
		return 0, syscall.EIO
	}
	uid := binary.NativeEndian.Uint32(req[24:])
	if errno := s.mount.ioctl(uid, id, cmd, arg[fixed:][:size]); errno != 0 {
		return 0, errno
	}
	clear(h.reply[outHeaderSize:][:16])
	return h.send(r, req, 16)
}
