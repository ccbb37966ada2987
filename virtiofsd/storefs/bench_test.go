package storefs

import (
	"strings"
	"testing"

	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// BenchmarkRequest is the cost of one request through the ring, beside the same
// without the file system (vhostuser's own benchmark).
func BenchmarkRequest(b *testing.B) {
	w := newWorld(b, memoryStore())
	p := w.add("x", sampleTree())
	dir := w.find(p).NodeId
	many := w.find(p + "/many").NodeId
	data := w.find(w.addNode("data", w.putFile(strings.Repeat("x", 4<<20), false))).NodeId
	run := func(name string, op uint32, node uint64, payload []byte, room int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.fuse.Call(op, node, payload, room); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("GETATTR", vt.FuseGetattr, dir, make([]byte, 16), 104)
	run("LOOKUP", vt.FuseLookup, dir, []byte("bin\x00"), 128)
	run("READDIRPLUS-4K", vt.FuseReaddirplus, many, readIn(0, 4096), 4096)
	run("READ-4K", vt.FuseRead, data, readIn(0, 4096), 4096)
	run("READ-1M", vt.FuseRead, data, readIn(0, 1<<20), 1<<20)
}
