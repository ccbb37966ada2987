package main

import (
	"encoding/binary"
	"fmt"
	"syscall"

	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// kernel is what a guest's kernel knows of the daemon: what that does not have
// (ENOSYS) it is asked for once.
type kernel struct {
	noOpen, noFlush, noOpendir bool
}

func handleOf(a *vt.FuseAnswer) uint64 {
	if len(a.Payload) < 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(a.Payload)
}

// readFile opens a file, reads it with one READ, and closes it.
type readFile struct {
	k      *kernel
	node   uint64
	size   int
	asked  uint32 // the opcode of the request under way
	handle uint64
}

const (
	fuseFlush = 25
	maxRead   = 4096
	openFlags = syscall.O_RDONLY | 0o100000 // O_LARGEFILE
)

func (f *readFile) Next(a *vt.FuseAnswer) (r vt.FuseRequest, ok bool, err error) {
	if a != nil && a.Errno != 0 && a.Errno != syscall.ENOSYS {
		return r, false, fmt.Errorf("opcode %d: %w", f.asked, a.Errno)
	}
	payload := make([]byte, 24)
	switch f.asked {
	case 0:
		if !f.k.noOpen {
			binary.LittleEndian.PutUint32(payload, openFlags)
			return f.ask(vt.FuseOpen, payload[:8], 16)
		}
	case vt.FuseOpen:
		if f.k.noOpen = a.Errno != 0; !f.k.noOpen {
			f.handle = handleOf(a)
		}
	case vt.FuseRead:
		if len(a.Payload) != f.size {
			return r, false, fmt.Errorf("READ of %d bytes brought %d", f.size, len(a.Payload))
		}
		if !f.k.noFlush {
			binary.LittleEndian.PutUint64(payload, f.handle)
			return f.ask(fuseFlush, payload, 0)
		}
		return f.release()
	case fuseFlush:
		f.k.noFlush = a.Errno != 0
		return f.release()
	case vt.FuseRelease:
		return r, false, nil
	}
	return f.ask(vt.FuseRead, vt.ReadPayload(f.handle, 0, maxRead), maxRead)
}

func (f *readFile) release() (vt.FuseRequest, bool, error) {
	if f.k.noOpen {
		return vt.FuseRequest{}, false, nil
	}
	payload := make([]byte, 24)
	binary.LittleEndian.PutUint64(payload, f.handle)
	binary.LittleEndian.PutUint32(payload[8:], openFlags)
	return f.ask(vt.FuseRelease, payload, 0)
}

func (f *readFile) ask(opcode uint32, payload []byte, room int) (vt.FuseRequest, bool, error) {
	f.asked = opcode
	return vt.FuseRequest{Opcode: opcode, Node: f.node, Payload: payload, Room: room}, true, nil
}

// walk lists directories by READDIRPLUS, as find does, and those in them.
type walk struct {
	k       *kernel
	size    int      // of the buffer of a READDIRPLUS, in bytes
	dirs    []uint64 // to be listed
	entries int      // that were listed, without "." and ".."
}

func (w *walk) next() vt.Job {
	if len(w.dirs) == 0 {
		return nil
	}
	node := w.dirs[len(w.dirs)-1]
	w.dirs = w.dirs[:len(w.dirs)-1]
	return &listDir{walk: w, node: node}
}

// listDir lists one directory.
type listDir struct {
	walk   *walk
	node   uint64
	asked  uint32
	handle uint64
	offset uint64
}

func (l *listDir) Next(a *vt.FuseAnswer) (r vt.FuseRequest, ok bool, err error) {
	if a != nil && a.Errno != 0 && a.Errno != syscall.ENOSYS {
		return r, false, fmt.Errorf("opcode %d: %w", l.asked, a.Errno)
	}
	k := l.walk.k
	switch l.asked {
	case 0:
		if !k.noOpendir {
			return l.ask(vt.FuseOpendir, make([]byte, 8), 16)
		}
	case vt.FuseOpendir:
		if k.noOpendir = a.Errno != 0; !k.noOpendir {
			l.handle = handleOf(a)
		}
	case vt.FuseReaddirplus:
		if len(a.Payload) > 0 {
			if err := l.take(a.Payload); err != nil {
				return r, false, err
			}
			break
		}
		if k.noOpendir {
			return r, false, nil
		}
		payload := make([]byte, 24)
		binary.LittleEndian.PutUint64(payload, l.handle)
		return l.ask(vt.FuseReleasedir, payload, 0)
	case vt.FuseReleasedir:
		return r, false, nil
	}
	return l.ask(vt.FuseReaddirplus, vt.ReadPayload(l.handle, l.offset, l.walk.size), l.walk.size)
}

func (l *listDir) ask(opcode uint32, payload []byte, room int) (vt.FuseRequest, bool, error) {
	l.asked = opcode
	return vt.FuseRequest{Opcode: opcode, Node: l.node, Payload: payload, Room: room}, true, nil
}

// take reads the entries of a READDIRPLUS answer (Linux, uapi/linux/fuse.h:
// fuse_direntplus).
func (l *listDir) take(b []byte) error {
	const entry, dirent, isDir = 128, 24, syscall.S_IFDIR >> 12
	for len(b) > 0 {
		if len(b) < entry+dirent {
			return fmt.Errorf("directory entry of %d bytes", len(b))
		}
		d := b[entry:]
		n := int(binary.LittleEndian.Uint32(d[16:]))
		if n > len(d)-dirent {
			return fmt.Errorf("directory entry with a name of %d bytes in %d", n, len(b))
		}
		l.offset = binary.LittleEndian.Uint64(d[8:])
		if name := string(d[dirent:][:n]); name != "." && name != ".." {
			l.walk.entries++
			if binary.LittleEndian.Uint32(d[20:]) == isDir {
				l.walk.dirs = append(l.walk.dirs, binary.LittleEndian.Uint64(b))
			}
		}
		b = b[min((entry+dirent+n+7)&^7, len(b)):]
	}
	return nil
}
