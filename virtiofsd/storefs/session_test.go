package storefs

import (
	"encoding/binary"
	"log/slog"
	"slices"
	"testing"

	"storeboot/virtiofsd/vhostuser"
	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

func FuzzHandle(f *testing.F) {
	header := func(op uint32, node uint64, payload ...byte) []byte {
		b := make([]byte, 40)
		binary.LittleEndian.PutUint32(b[4:], op)
		binary.LittleEndian.PutUint64(b[16:], node)
		return append(b, payload...)
	}
	for _, op := range []uint32{vt.FuseGetattr, vt.FuseReadlink, vt.FuseStatfs, vt.FuseOpen, vt.FuseGetxattr, 38, 42} {
		f.Add(header(op, 2, make([]byte, 24)...), 4096)
	}
	f.Add(header(vt.FuseLookup, 1, 0x78, 0), 4096)
	f.Add(header(vt.FuseRead, 3, readIn(0, 4096)...), 4096)
	f.Add(header(vt.FuseReaddirplus, 2, readIn(0, 4096)...), 4096)
	f.Add(header(vt.FuseIoctl, 1, make([]byte, 40)...), 16)
	w := &world{t: f, store: memoryStore()}
	p := w.add("x", tree{"f": "text", "d/g": "more", "l": "-> t"})
	fs := New(w.store, Options{})
	f.Fuzz(func(t *testing.T, req []byte, room int) {
		s := fs.NewSession(Events{}, slog.New(slog.DiscardHandler))
		handle := func(readable, writable [][]byte) int {
			return s.Handle(&vhostuser.Request{Readable: readable, Writable: writable})
		}
		initPayload := make([]byte, 64)
		initPayload[0], initPayload[4] = 7, 37
		out := make([]byte, min(max(room, 0), 1<<20))
		handle([][]byte{header(vt.FuseInit, 1, initPayload...)}, [][]byte{make([]byte, 16), make([]byte, 64)})
		handle([][]byte{header(vt.FuseLookup, 1, append([]byte(p), 0)...)}, [][]byte{make([]byte, 16), make([]byte, 128)})
		handle([][]byte{header(vt.FuseReaddirplus, 2, readIn(0, 4096)...)}, [][]byte{make([]byte, 16), make([]byte, 4096)})
		if n := handle(slices.Collect(slices.Chunk(req, 50)), [][]byte{out[:len(out)/2], out[len(out)/2:]}); n < 0 || n > len(out) {
			t.Fatalf("%d bytes written of %d", n, len(out))
		}
	})
}
