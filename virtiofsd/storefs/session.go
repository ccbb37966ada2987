package storefs

import (
	"encoding/binary"
	"log/slog"
	"syscall"
	"time"

	"storeboot/virtiofsd/vhostuser"
)

const (
	// maxIO is the largest READ we take, in bytes: 256 pages, what a queue of
	// 1024 entries carries at once.
	maxIO = 1 << 20
	// maxRequest is the longest request that is looked at; only writes are
	// longer, and those are refused.
	maxRequest = 64 << 10

	inHeaderSize  = 40
	outHeaderSize = 16
)

// Session handles the FUSE requests of one VMM's connection. It keeps nothing
// that a guest relies on: what one session has told a guest the next one
// understands, also that of a daemon that was started anew.
type Session struct {
	mount  *mount
	events Events
	log    *slog.Logger
}

// NewSession makes a session.
func (fs *FS) NewSession(events Events, log *slog.Logger) *Session {
	return &Session{mount: newMount(fs, events.Report), events: events, log: log}
}

// Device is the session as a device with that many queues.
func (s *Session) Device(queues int) vhostuser.Device {
	return vhostuser.Device{Queues: queues, Handle: s.Handle, SaveState: s.saveState, LoadState: s.loadState}
}

// handler is what one request has to itself, and leaves for the next
// (vhostuser.Request.Scratch).
type handler struct {
	buffer []byte // the request, out of the guest's reach
	to     scatter
	list   []byte // a listing, if the guest's buffer is in pieces
	reply  [outHeaderSize + 2*entryOutSize]byte
}

// Handle answers one request.
func (s *Session) Handle(r *vhostuser.Request) int {
	begin := time.Now()
	h, _ := r.Scratch.(*handler)
	if h == nil {
		h = &handler{buffer: make([]byte, maxRequest)}
		r.Scratch = h
	}
	req, whole := copyIn(h.buffer, r.Readable)
	if len(req) < inHeaderSize {
		return 0
	}
	opcode := binary.NativeEndian.Uint32(req[4:])
	n, errno := 0, syscall.EROFS
	if whole {
		n, errno = s.answer(h, r, opcode, req)
	}
	if errno != 0 {
		n = writeHeader(r.Writable, outHeaderSize, errno, req)
	}
	s.mount.fs.stats.add(opcode, errno != 0 && errno != syscall.ENOSYS, time.Since(begin))
	return n
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

// writeHeader writes the fuse_out_header of an answer of n bytes, itself
// included, as far as there is room, and returns n or that.
func writeHeader(writable [][]byte, n int, errno syscall.Errno, req []byte) int {
	var h [outHeaderSize]byte
	fillHeader(h[:], n, errno, req)
	k := 0
	for _, b := range writable {
		if k == len(h) {
			return n
		}
		k += copy(b, h[k:])
	}
	if k < len(h) {
		return k
	}
	return n
}

func fillHeader(h []byte, n int, errno syscall.Errno, req []byte) {
	binary.NativeEndian.PutUint32(h[0:], uint32(n))
	binary.NativeEndian.PutUint32(h[4:], uint32(-int32(errno)))
	copy(h[8:16], req[8:16]) // which request it answers
}
