package vhostusertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Queue is the driver's side of one virtqueue.
type Queue struct {
	Index             int
	Size              int
	Kick, Call        int    // eventfds
	Desc, Avail, Used uint64 // offsets in guest memory

	front     *FrontEnd
	event     bool
	poll      [1]unix.PollFd
	count     [8]byte
	availIdx  uint16
	flushed   uint16 // availIdx as the back end sees it
	usedIdx   uint16
	Kicks     int // notifications that were sent
	Interrupt int // interrupts that were waited for
}

// NewQueue sets a queue up and starts it, in the order of cloud-hypervisor.
func (f *FrontEnd) NewQueue(index, size int, features uint64) (*Queue, error) {
	q := &Queue{Index: index, Size: size, front: f, event: features&FeatureEventIdx != 0}
	q.Desc = f.Alloc(16*size, 16)
	q.Avail = f.Alloc(6+2*size, 4)
	q.Used = f.Alloc(6+8*size, 4)
	var err error
	if q.Kick, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, err
	}
	if q.Call, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, err
	}
	return q, q.Start()
}

// Start hands the queue to the back end, from where it is if all requests were
// answered.
func (q *Queue) Start() error { return q.StartAt(int(q.availIdx)) }

// StartAt hands the queue to the back end, which takes the request with that
// available index next.
func (q *Queue) StartAt(base int) error {
	i := uint32(q.Index)
	return errors.Join(
		q.front.Do(SetVringNum, State(i, uint32(q.Size))),
		q.SetAddresses(false),
		q.front.Do(SetVringBase, State(i, uint32(base)&0xffff)),
		q.front.Do(SetVringCall, U64(uint64(i)), q.Call),
		q.front.Do(SetVringKick, U64(uint64(i)), q.Kick),
		q.front.Do(SetVringEnable, State(i, 1)),
	)
}

// SetAddresses says where the rings are, and whether writes to the used ring are
// to be noted in the dirty log.
func (q *Queue) SetAddresses(log bool) error {
	flags := uint32(0)
	if log {
		flags = 1
	}
	addr := State(uint32(q.Index), flags)
	for _, off := range []uint64{q.Desc, q.Used, q.Avail} {
		addr = binary.LittleEndian.AppendUint64(addr, UserBase+off)
	}
	return q.front.Do(SetVringAddr, binary.LittleEndian.AppendUint64(addr, GuestBase+q.Used))
}

// Clear makes the rings those of a driver that starts.
func (q *Queue) Clear() {
	clear(q.front.Mem[q.Avail : q.Avail+6+2*uint64(q.Size)])
	clear(q.front.Mem[q.Used : q.Used+6+8*uint64(q.Size)])
	q.availIdx, q.flushed, q.usedIdx = 0, 0, 0
}

// Stop takes the queue back and returns the base that the back end says.
func (q *Queue) Stop() (base int, err error) {
	i := uint32(q.Index)
	if err := q.front.Do(SetVringEnable, State(i, 0)); err != nil {
		return 0, err
	}
	v, err := q.front.Ask(GetVringBase, State(i, 0))
	return int(v >> 32), err
}

// Close closes the eventfds.
func (q *Queue) Close() {
	_ = unix.Close(q.Kick)
	_ = unix.Close(q.Call)
}

func (q *Queue) word(off uint64) *uint32 { return (*uint32)(unsafe.Pointer(&q.front.Mem[off])) }

// Descriptor is one descriptor of a chain: a piece of guest memory by its
// offset in [FrontEnd.Mem].
type Descriptor struct {
	Offset uint64
	Len    int
	Write  bool
}

// WriteDescriptors writes a chain from entry first of the table at offset on.
func (q *Queue) WriteDescriptors(table uint64, first int, chain []Descriptor) {
	for i, d := range chain {
		flags := uint16(0)
		if d.Write {
			flags |= 2
		}
		if i < len(chain)-1 {
			flags |= 1
		}
		q.SetDescriptor(table, first+i, GuestBase+d.Offset, uint32(d.Len), flags, uint16(first+i+1))
	}
}

// SetDescriptor writes one entry of a descriptor table as it is told.
func (q *Queue) SetDescriptor(table uint64, i int, addr uint64, n uint32, flags, next uint16) {
	b := q.front.Mem[table+16*uint64(i):]
	binary.LittleEndian.PutUint64(b[0:], addr)
	binary.LittleEndian.PutUint32(b[8:], n)
	binary.LittleEndian.PutUint16(b[12:], flags)
	binary.LittleEndian.PutUint16(b[14:], next)
}

// Submit makes the chain that begins at head available and notifies the back
// end if it wants that.
func (q *Queue) Submit(head int) error {
	q.Offer(head)
	return q.Flush()
}

// Offer puts the chain that begins at head into the ring; the back end sees it
// with the next Flush.
func (q *Queue) Offer(head int) {
	binary.LittleEndian.PutUint16(q.front.Mem[q.Avail+4+2*uint64(int(q.availIdx)%q.Size):], uint16(head))
	q.availIdx++
}

// Flush makes available what was offered, and notifies the back end if it wants
// that.
func (q *Queue) Flush() error {
	old := q.flushed
	q.flushed = q.availIdx
	atomic.StoreUint32(q.word(q.Avail), uint32(q.availIdx)<<16)
	used := atomic.LoadUint32(q.word(q.Used))
	if q.event {
		event := binary.LittleEndian.Uint16(q.front.Mem[q.Used+4+8*uint64(q.Size):])
		if q.availIdx-event-1 >= q.availIdx-old {
			return nil
		}
	} else if used&1 != 0 {
		return nil
	}
	q.Kicks++
	return q.Notify()
}

// kick is what adds one to an eventfd.
var kick = []byte{1, 0, 0, 0, 0, 0, 0, 0}

// Notify kicks whether that is wanted or not.
func (q *Queue) Notify() error {
	_, err := unix.Write(q.Kick, kick)
	return err
}

// Answers is the number of used entries that were not waited for.
func (q *Queue) Answers() int {
	return int(uint16(atomic.LoadUint32(q.word(q.Used))>>16) - q.usedIdx)
}

// ErrNoAnswer is what Wait returns when its limit is over.
var ErrNoAnswer = errors.New("no answer and no interrupt")

// Wait waits for the next used entry and returns it. It sleeps until the back
// end interrupts; that it forgets to is found out.
func (q *Queue) Wait() (head int, written int, err error) {
	deadline := time.Now().Add(q.front.Limit)
	for {
		if uint16(atomic.LoadUint32(q.word(q.Used))>>16) != q.usedIdx {
			b := q.front.Mem[q.Used+4+8*uint64(int(q.usedIdx)%q.Size):]
			q.usedIdx++
			return int(binary.LittleEndian.Uint32(b)), int(binary.LittleEndian.Uint32(b[4:])), nil
		}
		if q.event { // ask for an interrupt at the next entry, and look again
			binary.LittleEndian.PutUint16(q.front.Mem[q.Avail+4+2*uint64(q.Size):], q.usedIdx)
			atomic.StoreUint32(q.word(q.Avail), uint32(q.flushed)<<16)
			if uint16(atomic.LoadUint32(q.word(q.Used))>>16) != q.usedIdx {
				continue
			}
		}
		left := time.Until(deadline)
		if left <= 0 {
			return 0, 0, fmt.Errorf("queue %d: %w within %v", q.Index, ErrNoAnswer, q.front.Limit)
		}
		q.poll[0] = unix.PollFd{Fd: int32(q.Call), Events: unix.POLLIN}
		if n, err := unix.Poll(q.poll[:], int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, 0, err
		} else if n == 1 {
			q.Interrupt++
			if _, err := unix.Read(q.Call, q.count[:]); err != nil && !errors.Is(err, unix.EAGAIN) {
				return 0, 0, err
			}
		}
	}
}
