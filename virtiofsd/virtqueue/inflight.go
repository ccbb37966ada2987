package virtqueue

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// Inflight is the record of which chains are being handled, in memory that the
// front end keeps for us: a back end that takes the place of one that died finds
// in it what to handle again. Its layout is that of the vhost-user
// specification ("Inflight I/O tracking", split virtqueue):
//
//	features u64 (0), version u16 (1), desc_num u16, last_batch_head u16, used_idx u16,
//	desc_num x { inflight u8, padding [5]u8, next u16, counter u64 }
//
// The front end can change it as it likes; what is read from it is checked.
type Inflight struct {
	b    []byte
	size int
}

const (
	inflightHeader  = 16
	inflightEntry   = 16
	inflightVersion = 1
)

// InflightSize is how many bytes the record of a queue with size descriptors
// takes; those of several queues follow each other.
func InflightSize(size int) int { return (inflightHeader + inflightEntry*size + 63) &^ 63 }

// newInflight takes over the record in b for a queue of that size. usedIdx is
// the queue's used index. A fresh record is all zeros.
func newInflight(b []byte, size int, usedIdx uint16) (*Inflight, error) {
	if len(b) < InflightSize(size) {
		return nil, fmt.Errorf("%w: record of requests in flight of %d bytes for a queue of %d", ErrInvalid, len(b), size)
	}
	r := &Inflight{b, size}
	switch version, n := r.u16(8), r.u16(10); {
	case version == 0:
		clear(b[:InflightSize(size)])
		r.put(8, inflightVersion)
		r.put(10, uint16(size))
		r.put(14, usedIdx)
	case version != inflightVersion || int(n) != size:
		return nil, fmt.Errorf("%w: record of requests in flight: version %d for a queue of %d, want %d for %d", ErrInvalid, version, n, inflightVersion, size)
	}
	r.settle(usedIdx)
	return r, nil
}

func (r *Inflight) u16(off int) uint16    { return binary.LittleEndian.Uint16(r.b[off:]) }
func (r *Inflight) put(off int, v uint16) { binary.LittleEndian.PutUint16(r.b[off:], v) }
func (r *Inflight) entry(head uint16) int { return inflightHeader + inflightEntry*int(head) }

// settle ends what the back end before may have begun: it had shown answers to
// the guest, and not yet noted that.
func (r *Inflight) settle(usedIdx uint16) {
	head := r.u16(12)
	for range min(int(usedIdx-r.u16(14)), r.size) {
		if int(head) >= r.size {
			break
		}
		r.b[r.entry(head)] = 0
		head = r.u16(r.entry(head) + 6)
	}
	r.put(14, usedIdx)
}

// heads are the chains in flight, in the order in which they were taken, and
// next is the counter for the next one.
func (r *Inflight) heads() (heads []uint16, next uint64) {
	counter := func(head uint16) uint64 { return binary.LittleEndian.Uint64(r.b[r.entry(head)+8:]) }
	order := map[uint16]uint64{} // read once: the front end may change it while we sort
	for i := range r.size {
		if head := uint16(i); r.b[r.entry(head)] != 0 {
			heads = append(heads, head)
			order[head] = counter(head)
			next = max(next, order[head]+1)
		}
	}
	slices.SortFunc(heads, func(a, b uint16) int { return cmp.Compare(order[a], order[b]) })
	return heads, next
}

// take notes that a chain is being handled.
func (r *Inflight) take(head uint16, counter uint64) {
	e := r.entry(head)
	binary.LittleEndian.PutUint64(r.b[e+8:], counter)
	r.b[e] = 1
}

// stage notes that a chain is the last of the batch that will be shown next.
func (r *Inflight) stage(head uint16) {
	r.put(r.entry(head)+6, r.u16(12))
	r.put(12, head)
}

// shown notes that the batch was shown to the guest.
func (r *Inflight) shown(batch []uint16, usedIdx uint16) {
	for _, head := range batch {
		r.b[r.entry(head)] = 0
	}
	r.put(14, usedIdx)
}
