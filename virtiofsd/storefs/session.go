package storefs

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"storeboot/virtiofsd/vhostuser"
)

const (
	// maxIO is the largest READ we take, in bytes: 256 pages, what a queue of
	// 1024 entries carries at once.
	maxIO = 1 << 20
	// maxRequest is the longest request that is looked at; only writes are
	// longer, and those are refused.
	maxRequest = 64 << 10
	// maxReply bounds what is written to a guest for one request.
	maxReply = maxIO + 64<<10

	inHeaderSize  = 40
	outHeaderSize = 16

	opInit    = 26
	opDestroy = 38
)

// Session handles the FUSE requests of one VMM's connection.
type Session struct {
	fs      *FS
	events  Events
	log     *slog.Logger
	current atomic.Pointer[served]
}

// served is a mount, and the FUSE_INIT that began it.
type served struct {
	mount *mount
	init  []byte
}

// handler is what one goroutine has to itself (vhostuser.Request.Scratch): room
// for a request out of the guest's reach, and the mount with the protocol in
// front of it, which knows the request that is being handled.
type handler struct {
	buffer []byte
	of     *served
	mount  mount
	server *fuse.ProtocolServer
}

// NewSession makes a session.
func (fs *FS) NewSession(events Events, log *slog.Logger) *Session {
	s := &Session{fs: fs, events: events, log: log}
	s.current.Store(s.newMount(assumedInit()))
	return s
}

// Device is the session as a device with that many queues.
func (s *Session) Device(queues int) vhostuser.Device {
	return vhostuser.Device{Queues: queues, Handle: s.Handle}
}

// Handle answers one request.
func (s *Session) Handle(r *vhostuser.Request) int {
	h, _ := r.Scratch.(*handler)
	if h == nil {
		h = &handler{buffer: make([]byte, maxRequest)}
		r.Scratch = h
	}
	req, whole := copyIn(h.buffer, r.Readable)
	if len(req) < inHeaderSize {
		return 0
	}
	opcode := binary.LittleEndian.Uint32(req[4:])
	if !whole {
		return errorReply(r.Writable, req, syscall.EROFS)
	}
	if opcode == opInit {
		if errno := checkInit(req); errno != 0 {
			return errorReply(r.Writable, req, errno)
		}
		s.current.Store(s.newMount(bytes.Clone(req)))
	}
	if current := s.current.Load(); h.of != current {
		h.join(current, s.log)
	}
	h.mount.ctx, h.mount.request = r.Context(), r
	n, status := h.server.HandleRequest([][]byte{req}, trim(r.Writable, maxReply))
	if status != fuse.OK {
		return errorReply(r.Writable, req, syscall.Errno(status))
	}
	switch {
	case opcode == opInit && s.events.Mounted != nil:
		s.events.Mounted()
	case opcode == opDestroy: // what the guest knew it has forgotten
		s.current.Store(s.newMount(assumedInit()))
	}
	return n
}

// join makes the handler one of a mount's: what was negotiated for the mount is
// so for its server.
func (h *handler) join(to *served, log *slog.Logger) {
	h.of, h.mount = to, *to.mount
	h.server = fuse.NewProtocolServer(&h.mount, &fuse.MountOptions{
		MaxWrite:             maxIO,
		EnableSymlinkCaching: true,
		Logger:               slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	})
	var answer [outHeaderSize + 64]byte
	_, _ = h.server.HandleRequest([][]byte{to.init}, [][]byte{answer[:outHeaderSize], answer[outHeaderSize:]})
}

// newMount begins a mount. A guest that boots again on the same connection
// sends a second FUSE_INIT and knows nothing of the inodes of the first.
func (s *Session) newMount(init []byte) *served {
	return &served{newMount(context.Background(), s.fs, s.events.Report), init}
}

// assumedInit is the FUSE_INIT of a guest that sends none: it had sent it to the
// daemon that was here before. No kernel with virtio-fs says less.
func assumedInit() []byte {
	const flags = fuse.CAP_ASYNC_READ | fuse.CAP_BIG_WRITES | fuse.CAP_READDIRPLUS | fuse.CAP_PARALLEL_DIROPS |
		fuse.CAP_NO_OPEN_SUPPORT | fuse.CAP_MAX_PAGES | fuse.CAP_CACHE_SYMLINKS | fuse.CAP_NO_OPENDIR_SUPPORT
	b := make([]byte, inHeaderSize+16)
	for i, v := range []uint32{uint32(len(b)), opInit, 1, 0, rootID} {
		binary.LittleEndian.PutUint32(b[4*i:], v)
	}
	for i, v := range []uint32{7, minMinor, 1 << 20, flags} {
		binary.LittleEndian.PutUint32(b[inHeaderSize+4*i:], v)
	}
	return b
}

// minMinor is the minor version of Linux 5.4, the first with virtio-fs.
const minMinor = 31

// checkInit refuses versions of the protocol that no kernel with virtio-fs has.
func checkInit(req []byte) syscall.Errno {
	const major = 7
	if len(req) < inHeaderSize+8 {
		return syscall.EINVAL
	}
	if binary.LittleEndian.Uint32(req[inHeaderSize:]) != major || binary.LittleEndian.Uint32(req[inHeaderSize+4:]) < minMinor {
		return syscall.EPROTO
	}
	return 0
}

// copyIn copies a request out of guest memory to buf, so that what is checked is
// what is used. Of one that is longer only that much is there.
func copyIn(buf []byte, readable [][]byte) (req []byte, whole bool) {
	n := 0
	for _, b := range readable {
		k := copy(buf[n:], b)
		n += k
		if k < len(b) {
			return buf[:n], false
		}
	}
	return buf[:n], true
}

// trim shortens bufs to n bytes in all.
func trim(bufs [][]byte, n int) [][]byte {
	for i, b := range bufs {
		if len(b) >= n {
			out := append([][]byte(nil), bufs[:i+1]...)
			out[i] = b[:n]
			return out
		}
		n -= len(b)
	}
	return bufs
}

// errorReply writes a reply that is an error alone.
func errorReply(writable [][]byte, req []byte, errno syscall.Errno) int {
	var h [outHeaderSize]byte
	binary.LittleEndian.PutUint32(h[0:], outHeaderSize)
	binary.LittleEndian.PutUint32(h[4:], uint32(-int32(errno)))
	copy(h[8:], req[8:16])
	n := 0
	for _, b := range writable {
		n += copy(b, h[n:])
	}
	return n
}
