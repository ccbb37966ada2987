package virtqueue

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"
)

const (
	// MaxSize is the largest number of descriptors of a queue (virtio 1.2,
	// 2.7).
	MaxSize = 1 << 15
	// MaxChain is the largest number of descriptors of a chain that is
	// followed. Those in an indirect table may be more than the queue's size; a
	// chain of pages of 4 KiB may have 16 MiB.
	MaxChain = 4096

	descSize = 16

	descNext     = 1
	descWrite    = 2
	descIndirect = 4

	availNoInterrupt = 1
	usedNoNotify     = 1
)

// Config describes a queue as the front end does. Addresses are the VMM's.
type Config struct {
	Size                   int // a power of two up to MaxSize
	Desc, Available, Used  uint64
	Base                   uint16 // the next available index to take
	EventIndex, IndirectOK bool   // negotiated features
	// Taken are the heads of chains that were taken and are not answered yet,
	// when a queue goes on.
	Taken []uint16
	// Inflight is the record of chains that are being handled, nil for none
	// (see [Inflight]). Then Base is not looked at: it follows from the record.
	Inflight []byte
	// Log is where writes to guest memory are noted, nil for nowhere; those to
	// the used ring at the guest address UsedAddr, if LogUsed.
	Log      *DirtyLog
	LogUsed  bool
	UsedAddr uint64
}

// Queue is one split virtqueue. See the package comment on trust and
// concurrency.
type Queue struct {
	mem      *Memory
	size     uint16 // 2^15 fits
	mask     uint16
	desc     []byte
	avail    []byte
	used     []byte
	event    bool
	indirect bool

	taken bitmap   // the heads of chains that were taken and are not answered yet
	parts [][]byte // of an indirect table; its memory is used again

	record  *Inflight // nil: none
	counter uint64    // of the next chain in it
	batch   []uint16  // the heads that are staged, if there is a record
	again   []uint16  // heads to handle again, that the back end before had taken

	log      *DirtyLog // nil: none
	logUsed  bool
	usedAddr uint64

	next      uint16 // next available index to take
	usedIdx   uint16 // used index with what is staged
	published uint16 // used index as the guest sees it
	flags     uint16 // of the used ring
}

// New makes a queue over mem.
func New(mem *Memory, c Config) (*Queue, error) {
	if c.Size < 1 || c.Size > MaxSize || c.Size&(c.Size-1) != 0 {
		return nil, fmt.Errorf("%w: size %d, want a power of two up to %d", ErrInvalid, c.Size, MaxSize)
	}
	// The specification asks for alignments of 16, 2 and 4. We read flags and
	// index of the available ring as one word: every driver aligns it to 4.
	desc, err := mem.user("descriptor table", c.Desc, c.Size*descSize, 16)
	if err != nil {
		return nil, err
	}
	avail, err := mem.user("available ring", c.Available, 6+2*c.Size, 4)
	if err != nil {
		return nil, err
	}
	used, err := mem.user("used ring", c.Used, 6+8*c.Size, 4)
	if err != nil {
		return nil, err
	}
	for _, b := range [][]byte{desc, avail, used} {
		// A mapping begins at a page; an address of another remainder means a
		// region that is not page-aligned.
		if uintptr(unsafe.Pointer(&b[0]))%4 != 0 {
			return nil, fmt.Errorf("%w: ring is not aligned in memory", ErrInvalid)
		}
	}
	q := &Queue{
		mem: mem, size: uint16(c.Size), mask: uint16(c.Size - 1), desc: desc, avail: avail, used: used,
		event: c.EventIndex, indirect: c.IndirectOK, next: c.Base, taken: newBitmap(c.Size),
	}
	for _, head := range c.Taken {
		if int(head) < c.Size {
			q.taken.set(head)
		}
	}
	// Where we are in the used ring is the guest's own record.
	q.usedIdx = uint16(atomic.LoadUint32(q.usedWord()) >> 16)
	q.published = q.usedIdx
	q.log, q.logUsed, q.usedAddr = c.Log, c.LogUsed, c.UsedAddr
	if c.Inflight != nil {
		if err := q.recover(c.Inflight, len(c.Taken)); err != nil {
			return nil, err
		}
	}
	return q, nil
}

// recover takes over the record of chains in flight: those in it that are not
// being handled here are handled again. What the back end before took from the
// available ring it has answered or noted, which says where to go on.
func (q *Queue) recover(b []byte, taken int) (err error) {
	if q.record, err = newInflight(b, int(q.size), q.usedIdx); err != nil {
		return err
	}
	var heads []uint16
	heads, q.counter = q.record.heads()
	for _, head := range heads {
		if !q.taken.get(head) {
			q.again = append(q.again, head)
		}
	}
	q.next = q.usedIdx + uint16(len(q.again)+taken)
	return nil
}

// Base is the next available index that would be taken: what the front end
// saves, to go on from there.
func (q *Queue) Base() uint16 { return q.next }

func (q *Queue) availWord() *uint32 { return (*uint32)(unsafe.Pointer(&q.avail[0])) }
func (q *Queue) usedWord() *uint32  { return (*uint32)(unsafe.Pointer(&q.used[0])) }

// availIndex reads the guest's flags and index in one go.
func (q *Queue) availIndex() (flags, idx uint16) {
	w := atomic.LoadUint32(q.availWord())
	return uint16(w), uint16(w >> 16)
}

// storeUsed writes our flags and published index. It is a full barrier.
func (q *Queue) storeUsed() {
	atomic.StoreUint32(q.usedWord(), uint32(q.flags)|uint32(q.published)<<16)
	if q.logUsed && q.log != nil {
		q.log.mark(q.usedAddr, 4)
	}
}

// Next takes the next available chain into c, reusing c's memory, and says
// whether there was one.
func (q *Queue) Next(c *Chain) (bool, error) {
	if len(q.again) > 0 {
		head := q.again[0]
		q.again = q.again[1:]
		return true, q.take(c, head)
	}
	_, idx := q.availIndex()
	n := idx - q.next
	if n == 0 {
		return false, nil
	}
	if n > q.size {
		return false, fmt.Errorf("%w: available index %d is %d ahead of %d, the queue has %d", ErrInvalid, idx, n, q.next, q.size)
	}
	head := binary.LittleEndian.Uint16(q.avail[4+2*int(q.next&q.mask):])
	if err := q.take(c, head); err != nil {
		return false, err
	}
	q.next++
	return true, nil
}

// take reads the chain that begins at head, and notes that it was taken.
func (q *Queue) take(c *Chain, head uint16) error {
	if err := q.read(c, head); err != nil {
		return err
	}
	if q.taken.get(head) {
		return fmt.Errorf("%w: chain %d is available a second time before it is answered", ErrInvalid, head)
	}
	q.taken.set(head)
	if q.record != nil {
		q.record.take(head, q.counter)
		q.counter++
	}
	return nil
}

// Push stages the answer to a chain: written is the number of bytes at the
// beginning of its writable part that were written. Chains may be answered in
// any order.
func (q *Queue) Push(c *Chain, written uint32) {
	q.taken.clear(c.Head)
	if q.record != nil {
		q.record.stage(c.Head)
		q.batch = append(q.batch, c.Head)
	}
	if q.log != nil {
		q.log.markChain(c, int(written))
		if q.logUsed {
			q.log.mark(q.usedAddr+4+8*uint64(q.usedIdx&q.mask), 8)
		}
	}
	e := q.used[4+8*int(q.usedIdx&q.mask):]
	binary.LittleEndian.PutUint32(e, uint32(c.Head))
	binary.LittleEndian.PutUint32(e[4:], written)
	q.usedIdx++
}

// Staged is the number of answers that the guest does not see yet.
func (q *Queue) Staged() int { return int(q.usedIdx - q.published) }

// Publish shows what was staged to the guest and says whether it wants to be
// interrupted.
func (q *Queue) Publish() (interrupt bool) {
	if q.usedIdx == q.published {
		return false
	}
	old := q.published
	q.published = q.usedIdx
	q.storeUsed() // full barrier: the guest's wish is read after it
	if q.record != nil {
		q.record.shown(q.batch, q.published)
		q.batch = q.batch[:0]
	}
	if !q.event {
		flags, _ := q.availIndex()
		return flags&availNoInterrupt == 0
	}
	usedEvent := binary.LittleEndian.Uint16(q.avail[4+2*int(q.size):])
	return needEvent(usedEvent, q.published, old)
}

// needEvent is vring_need_event: whether event lies in [old, now).
func needEvent(event, now, old uint16) bool { return now-event-1 < now-old }

// EnableNotify asks the guest for a notification of the next chain, and says
// whether one has come in the meantime, without a notification.
func (q *Queue) EnableNotify() (more bool) {
	if q.event {
		binary.LittleEndian.PutUint16(q.used[4+8*int(q.size):], q.next)
		if q.logUsed && q.log != nil {
			q.log.mark(q.usedAddr+4+8*uint64(q.size), 2)
		}
	}
	q.flags &^= usedNoNotify
	q.storeUsed() // full barrier: the guest's index is read after the wish is visible
	_, idx := q.availIndex()
	return idx != q.next
}

// DisableNotify says to the guest that notifications are not needed now. With
// EventIndex there is nothing to do: the guest notifies when the index passes
// the one last asked for.
func (q *Queue) DisableNotify() {
	if !q.event && q.flags&usedNoNotify == 0 {
		q.flags |= usedNoNotify
		q.storeUsed()
	}
}
