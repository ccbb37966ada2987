package storefs

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"syscall"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/pathinfo"
	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// stalledInfos answers for one store path only when it is let.
type stalledInfos struct {
	pathinfo.Service
	path  atomic.Pointer[storepath.StorePath]
	begun chan struct{}
	let   chan struct{}
}

func (s *stalledInfos) Get(ctx context.Context, hash storepath.Hash) (*pathinfo.PathInfo, error) {
	if p := s.path.Load(); p != nil && hash == p.Hash {
		close(s.begun)
		select {
		case <-s.let:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.Service.Get(ctx, hash)
}

// TestStalledLookup holds that a LOOKUP that waits, for a binary cache say, does
// not hold up the other requests of its queue, and is answered when it can be.
func TestStalledLookup(t *testing.T) {
	store := memoryStore()
	stalled := &stalledInfos{Service: store.PathInfos, begun: make(chan struct{}), let: make(chan struct{})}
	store.PathInfos = stalled
	w := newWorld(t, store)
	name := w.add("slow", tree{"f": "slow"})
	p, err := storepath.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	stalled.path.Store(&p)
	quick := w.find(w.add("quick", tree{"f": "contents"}) + "/f")

	const head, unique = 900, 77
	in, out := w.front.Alloc(256, 8), w.front.Alloc(256, 8)
	h := w.front.Mem[in:]
	binary.LittleEndian.PutUint32(h[0:], uint32(40+len(name)+1))
	binary.LittleEndian.PutUint32(h[4:], vt.FuseLookup)
	binary.LittleEndian.PutUint64(h[8:], unique)
	binary.LittleEndian.PutUint64(h[16:], rootID)
	copy(h[40:], name)
	w.fuse.WriteDescriptors(w.fuse.Desc, head, []vt.Descriptor{{Offset: in, Len: 40 + len(name) + 1}, {Offset: out, Len: 16 + 128, Write: true}})
	if err := w.fuse.Submit(head); err != nil {
		t.Fatal(err)
	}
	<-stalled.begun
	for range 100 { // each Call takes the next answer for its own
		if _, err := w.fuse.Call(vt.FuseGetattr, quick.NodeId, make([]byte, 16), 104); err != nil {
			t.Fatal(err)
		}
		if b, err := w.fuse.Call(vt.FuseRead, quick.NodeId, readIn(0, 4096), 4096); err != nil || string(b) != "contents" {
			t.Fatal(string(b), err)
		}
	}
	close(stalled.let)
	got, n, err := w.fuse.Wait()
	answer := w.front.Mem[out:]
	if err != nil || got != head || n != 16+128 || binary.LittleEndian.Uint64(answer[8:]) != unique ||
		binary.LittleEndian.Uint32(answer[4:]) != 0 || binary.LittleEndian.Uint32(answer[16+40+60:])&syscall.S_IFMT != syscall.S_IFDIR {
		t.Errorf("chain %d, %d bytes: %v: % x", got, n, err, answer[:16])
	}
}
