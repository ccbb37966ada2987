package storefs

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
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

	opInit        = 26
	opDestroy     = 38
	opForget      = 2
	opBatchForget = 42
)

// Session handles the FUSE requests of one VMM's connection. Its Handle method
// is a vhostuser.Handler.
type Session struct {
	ctx    context.Context
	fs     *FS
	events Events
	log    *slog.Logger
	// buffers hold the request that a queue is at, out of the guest's reach.
	buffers [][]byte
	current atomic.Pointer[served] // nil before FUSE_INIT
}

// served is a mount with the protocol in front of it.
type served struct {
	mount  *mount
	server *fuse.ProtocolServer
}

// NewSession makes a session for a device with that many queues. ctx ends the
// look-ups that a request may wait for.
func (fs *FS) NewSession(ctx context.Context, queues int, events Events, log *slog.Logger) *Session {
	return &Session{ctx: ctx, fs: fs, events: events, log: log, buffers: make([][]byte, queues)}
}

// Handle answers one request.
func (s *Session) Handle(queue int, readable, writable [][]byte) int {
	req, whole := s.copyIn(queue, readable)
	if len(req) < inHeaderSize {
		return 0
	}
	opcode := binary.LittleEndian.Uint32(req[4:])
	if !whole {
		return errorReply(writable, req, syscall.EROFS)
	}
	if opcode == opInit {
		if errno := checkInit(req); errno != 0 {
			return errorReply(writable, req, errno)
		}
		s.current.Store(s.newMount())
	}
	current := s.current.Load()
	if current == nil {
		if opcode == opForget || opcode == opBatchForget {
			return 0
		}
		return errorReply(writable, req, syscall.ENOTCONN)
	}
	n, status := current.server.HandleRequest([][]byte{req}, trim(writable, maxReply))
	if status != fuse.OK {
		return errorReply(writable, req, syscall.Errno(status))
	}
	switch {
	case opcode == opInit && s.events.Mounted != nil:
		s.events.Mounted()
	case opcode == opDestroy:
		s.current.Store(nil)
	}
	return n
}

// newMount begins a mount. A guest that boots again on the same connection
// sends a second FUSE_INIT and knows nothing of the inodes of the first.
func (s *Session) newMount() *served {
	m := newMount(s.ctx, s.fs, s.events.Report)
	return &served{m, fuse.NewProtocolServer(m, &fuse.MountOptions{
		MaxWrite:             maxIO,
		EnableSymlinkCaching: true,
		Logger:               slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	})}
}

// checkInit refuses versions of the protocol that no kernel with virtio-fs has.
func checkInit(req []byte) syscall.Errno {
	const major, minMinor = 7, 31 // Linux 5.4, the first with virtio-fs
	if len(req) < inHeaderSize+8 {
		return syscall.EINVAL
	}
	if binary.LittleEndian.Uint32(req[inHeaderSize:]) != major || binary.LittleEndian.Uint32(req[inHeaderSize+4:]) < minMinor {
		return syscall.EPROTO
	}
	return 0
}

// copyIn copies a request out of guest memory, so that what is checked is what
// is used. Of one that is longer than maxRequest only that much is there.
func (s *Session) copyIn(queue int, readable [][]byte) (req []byte, whole bool) {
	if s.buffers[queue] == nil {
		s.buffers[queue] = make([]byte, maxRequest)
	}
	buf, n := s.buffers[queue], 0
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
