package vhostusertest

import (
	"encoding/binary"
	"fmt"
	"syscall"
)

// FUSE opcodes.
const (
	FuseLookup      = 1
	FuseForget      = 2
	FuseGetattr     = 3
	FuseReadlink    = 5
	FuseOpen        = 14
	FuseRead        = 15
	FuseWrite       = 16
	FuseStatfs      = 17
	FuseRelease     = 18
	FuseGetxattr    = 22
	FuseInit        = 26
	FuseOpendir     = 27
	FuseReaddir     = 28
	FuseReleasedir  = 29
	FuseDestroy     = 38
	FuseIoctl       = 39
	FuseBatchForget = 42
	FuseReaddirplus = 44
)

// Fuse sends FUSE requests on a queue, one at a time, as a guest's kernel does.
type Fuse struct {
	*Queue
	in, out uint64 // offsets of buffers
	unique  uint64
	// UID is the user that the requests come from.
	UID uint32
	// Pages cuts the buffer of an answer into descriptors of a page each.
	Pages bool
}

// maxIn and maxOut bound requests and answers.
const (
	maxIn  = 128 << 10
	maxOut = 1<<20 + 64<<10
)

// NewFuse uses q for FUSE requests.
func NewFuse(q *Queue) *Fuse {
	return &Fuse{Queue: q, in: q.front.Alloc(maxIn, 4096), out: q.front.Alloc(maxOut, 4096)}
}

// Call sends one request and returns the payload of the answer, which has room
// for up to room bytes and is guest memory, valid until the next Call. An error
// of the file system is a syscall.Errno.
func (f *Fuse) Call(opcode uint32, node uint64, payload []byte, room int) ([]byte, error) {
	f.unique++
	f.writeHeader(opcode, node, len(payload))
	copy(f.front.Mem[f.in+40:f.in+maxIn], payload)
	chain := []Descriptor{{Offset: f.in, Len: 40 + len(payload)}, {Offset: f.out, Len: 16, Write: true}}
	for off := 0; off < room; {
		n := room - off
		if f.Pages {
			n = min(n, 4096)
		}
		chain = append(chain, Descriptor{Offset: f.out + 4096 + uint64(off), Len: n, Write: true})
		off += n
	}
	if len(chain) > f.Size {
		return nil, fmt.Errorf("chain of %d descriptors in a queue of %d", len(chain), f.Size)
	}
	f.WriteDescriptors(f.Desc, 0, chain)
	if err := f.Submit(0); err != nil {
		return nil, err
	}
	head, written, err := f.Wait()
	if err != nil {
		return nil, err
	}
	if head != 0 || written < 16 {
		return nil, fmt.Errorf("opcode %d: used entry with head %d and %d bytes", opcode, head, written)
	}
	h := f.front.Mem[f.out:]
	if n, id := binary.LittleEndian.Uint32(h), binary.LittleEndian.Uint64(h[8:]); int(n) != written || id != f.unique {
		return nil, fmt.Errorf("opcode %d: answer says length %d, number %d; want %d, %d", opcode, n, id, written, f.unique)
	}
	if errno := int32(binary.LittleEndian.Uint32(h[4:])); errno != 0 {
		return nil, syscall.Errno(-errno)
	}
	return f.front.Mem[f.out+4096:][:written-16], nil
}

// Forget sends a request that has no answer but an empty used entry.
func (f *Fuse) Forget(node, lookups uint64) error {
	f.unique++
	f.writeHeader(FuseForget, node, 8)
	binary.LittleEndian.PutUint64(f.front.Mem[f.in+40:], lookups)
	f.WriteDescriptors(f.Desc, 0, []Descriptor{{Offset: f.in, Len: 48}})
	if err := f.Submit(0); err != nil {
		return err
	}
	_, written, err := f.Wait()
	if err == nil && written != 0 {
		err = fmt.Errorf("FORGET was answered with %d bytes", written)
	}
	return err
}

func (f *Fuse) writeHeader(opcode uint32, node uint64, payload int) {
	h := f.front.Mem[f.in : f.in+40]
	clear(h)
	binary.LittleEndian.PutUint32(h[0:], uint32(40+payload))
	binary.LittleEndian.PutUint32(h[4:], opcode)
	binary.LittleEndian.PutUint64(h[8:], f.unique)
	binary.LittleEndian.PutUint64(h[16:], node)
	binary.LittleEndian.PutUint32(h[24:], f.UID)
}

// Init is FUSE_INIT as Linux 6.1 sends it; the answer is that of fuse_init_out.
func (f *Fuse) Init() ([]byte, error) {
	return f.Call(FuseInit, 1, InitPayload(), 64)
}

// InitPayload is the payload of FUSE_INIT as Linux 6.1 sends it.
func InitPayload() []byte {
	b := make([]byte, 64)
	binary.LittleEndian.PutUint32(b[0:], 7)
	binary.LittleEndian.PutUint32(b[4:], 37)
	binary.LittleEndian.PutUint32(b[8:], 128<<10)
	binary.LittleEndian.PutUint32(b[12:], 0x73fffffb)
	return b
}

// ReadPayload is the payload of READ, READDIR and READDIRPLUS.
func ReadPayload(handle, offset uint64, size int) []byte {
	b := make([]byte, 40)
	binary.LittleEndian.PutUint64(b[0:], handle)
	binary.LittleEndian.PutUint64(b[8:], offset)
	binary.LittleEndian.PutUint32(b[16:], uint32(size))
	return b
}
