package vhostusertest

import (
	"encoding/binary"
	"fmt"
	"strings"
	"syscall"
)

// Entry is what LOOKUP tells of a file (struct fuse_entry_out).
type Entry struct {
	Node  uint64 // 0 if there is none
	Size  uint64
	Mode  uint32
	Nlink uint32
}

func parseEntry(b []byte) (Entry, error) {
	if len(b) < 128 {
		return Entry{}, fmt.Errorf("entry of %d bytes, want 128", len(b))
	}
	return Entry{
		Node: binary.LittleEndian.Uint64(b), Size: binary.LittleEndian.Uint64(b[40+8:]),
		Mode: binary.LittleEndian.Uint32(b[40+60:]), Nlink: binary.LittleEndian.Uint32(b[40+64:]),
	}, nil
}

// Lookup finds a name in a directory. One that is not there is an error or an
// entry without a node, as the daemon likes.
func (g *Guest) Lookup(parent uint64, name string) (Entry, error) {
	b, err := g.Call(FuseLookup, parent, append([]byte(name), 0), 128)
	if err != nil {
		return Entry{}, err
	}
	return parseEntry(b)
}

// Find follows a path from a directory on.
func (g *Guest) Find(from uint64, path string) (e Entry, err error) {
	e.Node = from
	for name := range strings.SplitSeq(path, "/") {
		if e, err = g.Lookup(e.Node, name); err == nil && e.Node == 0 {
			err = syscall.ENOENT
		}
		if err != nil {
			return e, fmt.Errorf("look up %q of %q: %w", name, path, err)
		}
	}
	return e, nil
}

// Open opens a file, or a directory with FuseOpendir, and returns the handle
// for further requests: 0 from a daemon that does without.
func (g *Guest) Open(opcode uint32, node uint64) (handle uint64, err error) {
	b, err := g.Call(opcode, node, make([]byte, 8), 16)
	if err == syscall.ENOSYS {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(b) != 16 {
		return 0, fmt.Errorf("answer to OPEN of %d bytes", len(b))
	}
	return binary.LittleEndian.Uint64(b), nil
}

// ReadDir lists a directory with buffers of size bytes, by READDIR or
// READDIRPLUS. Inodes of READDIRPLUS come along, "." and ".." without.
func (g *Guest) ReadDir(opcode uint32, node, handle uint64, size int) (names []string, entries []Entry, err error) {
	for offset := uint64(0); ; {
		b, err := g.Call(opcode, node, ReadPayload(handle, offset, size), size)
		if err != nil || len(b) == 0 {
			return names, entries, err
		}
		for len(b) > 0 {
			var e Entry
			if opcode == FuseReaddirplus {
				if e, err = parseEntry(b); err != nil {
					return names, entries, err
				}
				b = b[128:]
			}
			if len(b) < 24 {
				return names, entries, fmt.Errorf("directory entry of %d bytes", len(b))
			}
			n := int(binary.LittleEndian.Uint32(b[16:]))
			offset = binary.LittleEndian.Uint64(b[8:])
			if len(b) < 24+n {
				return names, entries, fmt.Errorf("directory entry with a name of %d bytes in %d", n, len(b))
			}
			names, entries = append(names, string(b[24:24+n])), append(entries, e)
			b = b[min((24+n+7)&^7, len(b)):]
		}
	}
}
