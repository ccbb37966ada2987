package vhostuser_test

import (
	"testing"

	"storeboot/virtiofsd/vhostuser"
	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// TestNoAllocations holds that a request goes through the ring and back without
// an allocation, however its chain is laid out, and with a record of requests in
// flight.
func TestNoAllocations(t *testing.T) {
	d := startDaemon(t, func(r *vhostuser.Request) int { return copy(r.Writable[0], r.Readable[0]) })
	f := d.connect(t, allFeatures)
	if err := f.ShareMemory(); err != nil {
		t.Fatal(err)
	}
	record, err := f.NewInflight(5, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Do(vt.SetInflightFD, record.Payload, record.FD); err != nil {
		t.Fatal(err)
	}
	q := newQueue(t, f, 1, allFeatures)
	chain := []vt.Descriptor{{Offset: q.in, Len: 100}, {Offset: q.out, Len: 100, Write: true}, {Offset: q.in, Len: 100, Write: true}}
	table := f.Alloc(64, 16)
	q.WriteDescriptors(table, 0, chain)
	q.WriteDescriptors(q.Desc, 0, chain)
	q.SetDescriptor(q.Desc, 10, vt.GuestBase+table, 48, 4, 0)
	for name, head := range map[string]int{"direct": 0, "indirect": 10} {
		for range 100 { // buffers grow first
			roundTrip(t, q, head)
		}
		// A stall of this machine makes the queue's loop pass to a new worker,
		// once in a while: that is not the usual request.
		if n := testing.AllocsPerRun(1000, func() { roundTrip(t, q, head) }); n != 0 {
			t.Errorf("%s: %v allocations a request", name, n)
		}
	}
}

func roundTrip(t *testing.T, q *echoQueue, head int) {
	if err := q.Submit(head); err != nil {
		t.Fatal(err)
	}
	if h, n, err := q.Wait(); err != nil || h != head || n != 100 {
		t.Fatal(h, n, err)
	}
}
