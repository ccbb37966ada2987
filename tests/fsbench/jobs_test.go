package main

import (
	"encoding/binary"
	"testing"

	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// plusEntry is an entry of a READDIRPLUS answer.
func plusEntry(node, offset uint64, kind uint32, name string) []byte {
	b := make([]byte, (128+24+len(name)+7)&^7)
	binary.LittleEndian.PutUint64(b, node)
	binary.LittleEndian.PutUint64(b[136:], offset)
	binary.LittleEndian.PutUint32(b[144:], uint32(len(name)))
	binary.LittleEndian.PutUint32(b[148:], kind)
	copy(b[152:], name)
	return b
}

// TestWalk holds what a walk counts, where it goes on, and that it asks a daemon
// without OPENDIR once.
func TestWalk(t *testing.T) {
	w := &walk{k: &kernel{}, size: 4096, dirs: []uint64{1}}
	job := w.next()
	expect := func(last *vt.FuseAnswer, opcode uint32, offset uint64) {
		t.Helper()
		r, ok, err := job.Next(last)
		if err != nil || ok != (opcode != 0) || r.Opcode != opcode {
			t.Fatalf("request %+v, %v, %v; want opcode %d", r, ok, err, opcode)
		}
		if opcode == vt.FuseReaddirplus && binary.LittleEndian.Uint64(r.Payload[8:]) != offset {
			t.Fatalf("goes on at %d, want %d", binary.LittleEndian.Uint64(r.Payload[8:]), offset)
		}
	}
	expect(nil, vt.FuseOpendir, 0)
	expect(&vt.FuseAnswer{Errno: 38}, vt.FuseReaddirplus, 0)
	list := append(plusEntry(0, 1, 4, "."), plusEntry(0, 2, 4, "..")...)
	list = append(append(list, plusEntry(5, 3, 4, "sub")...), plusEntry(6, 9, 8, "file")...)
	expect(&vt.FuseAnswer{Payload: list}, vt.FuseReaddirplus, 9)
	expect(&vt.FuseAnswer{}, 0, 0)
	if w.entries != 2 || len(w.dirs) != 1 || w.dirs[0] != 5 {
		t.Errorf("%d entries, directories %v", w.entries, w.dirs)
	}
	job = w.next()
	expect(nil, vt.FuseReaddirplus, 0)
	if _, _, err := job.Next(&vt.FuseAnswer{Payload: list[:100]}); err == nil {
		t.Error("an entry that is cut short is taken")
	}
	if _, _, err := job.Next(&vt.FuseAnswer{Errno: 5}); err == nil {
		t.Error("an error is taken for the end")
	}
}
