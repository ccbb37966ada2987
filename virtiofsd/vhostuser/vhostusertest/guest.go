package vhostusertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// GuestOptions are how a [Guest] is made. The zero value is what a guest with a
// current kernel has.
type GuestOptions struct {
	Depth     int    // most requests in flight, 0 for 32
	Queue     int    // the queue for requests, 0 for 1, the first request queue
	QueueSize int    // descriptors, 0 for 1024
	MaxIO     int    // largest READ in bytes, 0 for 1 MiB
	Features  uint64 // ring features to use if offered, 0 for indirect and event index
	Regions   int    // regions of guest memory, 0 for 1
	Inflight  bool   // have the daemon keep a record of the requests in flight
}

func (o *GuestOptions) defaults() {
	for p, v := range map[*int]int{&o.Depth: 32, &o.Queue: 1, &o.QueueSize: 1024, &o.MaxIO: 1 << 20} {
		if *p == 0 {
			*p = v
		}
	}
	if o.Features == 0 {
		o.Features = FeatureIndirect | FeatureEventIdx
	}
}

// Guest plays a guest with a vhost-user-fs device, and its VMM, on the socket of
// any such daemon. It has up to Depth FUSE requests in flight, each laid out as
// Linux does: one descriptor for the request, one for the header of the answer,
// one for each page of a READ.
type Guest struct {
	*FrontEnd
	Q       *Queue
	Options GuestOptions
	Ring    uint64 // the ring features in use
	Offered int    // queues that the daemon has

	closed bool
	record Inflight
	slots  []slot
	free   []int
	unique uint64
}

// slot is the memory of one request in flight.
type slot struct {
	table, in, out uint64 // offsets in Mem
	unique         uint64
	opcode         uint32
	busy           bool
}

// FuseRequest is one request as the load generator sends it.
type FuseRequest struct {
	Opcode  uint32
	Node    uint64
	Payload []byte // what follows the header
	Room    int    // bytes of room for what follows the answer's header; 0 with NoAnswer
	// NoAnswer says that the request has none (FORGET).
	NoAnswer bool
}

// FuseAnswer is what came for one. Payload is guest memory, valid until the next
// request is sent.
type FuseAnswer struct {
	Slot    int
	Payload []byte
	Errno   syscall.Errno // of the file system, 0 for none
}

const slotIn = 8192 // room for a request

// NewGuest connects to a daemon and sets its device up, without FUSE_INIT.
func NewGuest(socket string, o GuestOptions) (*Guest, error) {
	o.defaults()
	perSlot := slotIn + o.MaxIO + 2*4096 + 16*(o.MaxIO/4096+8)
	f, err := Connect(socket, 2*(4<<20+o.Depth*(perSlot+4096)))
	if err != nil {
		return nil, err
	}
	g := &Guest{FrontEnd: f, Options: o}
	if err := g.setUp(); err != nil {
		f.Close()
		return nil, err
	}
	return g, nil
}

func (g *Guest) setUp() (err error) {
	o := g.Options
	if g.Offered, g.Ring, err = g.NegotiateBest(o.Features); err != nil {
		return err
	}
	if o.Queue >= g.Offered {
		return fmt.Errorf("queue %d: the daemon has %d", o.Queue, g.Offered)
	}
	if err := g.ShareRegions(max(1, o.Regions)); err != nil {
		return err
	}
	if o.Regions > 1 { // a region ends within a buffer of the first slot
		g.Alloc(len(g.Mem)/2-o.MaxIO/2-int(g.alloc), 1)
	}
	for range o.Depth {
		g.slots = append(g.slots, slot{
			table: g.Alloc(16*(o.MaxIO/4096+8), 16), in: g.Alloc(slotIn, 4096), out: g.Alloc(4096+o.MaxIO, 4096),
		})
		g.free = append(g.free, o.Depth-len(g.slots))
	}
	if o.Inflight {
		if g.record, err = g.NewInflight(g.Offered, o.QueueSize); err != nil {
			return err
		}
		if err := g.Do(SetInflightFD, g.record.Payload, g.record.FD); err != nil {
			return err
		}
	}
	g.Q, err = g.NewQueue(o.Queue, o.QueueSize, g.Ring)
	return err
}

// Resume goes on with a daemon that takes the place of one that died: the
// requests in flight are answered by it. The guest notices nothing.
func (g *Guest) Resume(socket string) error {
	if !g.Options.Inflight {
		return errors.New("the guest has no record of its requests in flight")
	}
	if err := g.Reconnect(socket, g.Ring); err != nil {
		return err
	}
	return g.Q.Restart(g.record)
}

// InFlight is the number of requests that are not answered yet.
func (g *Guest) InFlight() int { return len(g.slots) - len(g.free) }

// Mount connects to a daemon and sends FUSE_INIT as Linux 6.1 does.
func Mount(socket string, o GuestOptions) (*Guest, error) {
	g, err := NewGuest(socket, o)
	if err != nil {
		return nil, err
	}
	if _, err := g.Call(FuseInit, 1, InitPayload(), 64); err != nil {
		g.Close()
		return nil, fmt.Errorf("FUSE_INIT: %w", err)
	}
	return g, nil
}

// Close ends the connection, as a VMM that is killed does.
func (g *Guest) Close() {
	if g.closed {
		return
	}
	g.closed = true
	g.FrontEnd.Close()
	if g.Q != nil {
		g.Q.Close()
	}
	if g.record.Payload != nil {
		_ = unix.Close(g.record.FD)
	}
}

// Fill writes a request into a free slot, and returns that, without making it
// available. There have to be less than Depth in flight.
func (g *Guest) Fill(r FuseRequest) (int, error) {
	if len(g.free) == 0 {
		return 0, errors.New("too many requests in flight")
	}
	if 40+len(r.Payload) > slotIn || r.Room > g.Options.MaxIO {
		return 0, fmt.Errorf("request of %d bytes with room for %d does not fit", len(r.Payload), r.Room)
	}
	i := g.free[len(g.free)-1]
	g.free = g.free[:len(g.free)-1]
	s := &g.slots[i]
	g.unique++
	s.unique, s.opcode, s.busy = g.unique, r.Opcode, true
	h := g.Mem[s.in : s.in+40]
	clear(h)
	binary.LittleEndian.PutUint32(h[0:], uint32(40+len(r.Payload)))
	binary.LittleEndian.PutUint32(h[4:], r.Opcode)
	binary.LittleEndian.PutUint64(h[8:], s.unique)
	binary.LittleEndian.PutUint64(h[16:], r.Node)
	copy(g.Mem[s.in+40:], r.Payload)
	g.describe(i, r)
	return i, nil
}

// describe writes the descriptors of slot i: in a table of its own, or if that
// was not negotiated in the queue's, of which each slot has an equal part.
func (g *Guest) describe(i int, r FuseRequest) {
	s := &g.slots[i]
	table, first := s.table, 0
	if g.Ring&FeatureIndirect == 0 {
		table, first = g.Q.Desc, g.head(i)
	}
	n := first
	add := func(off uint64, size int, flags uint16) {
		g.Q.SetDescriptor(table, n, GuestBase+off, uint32(size), flags|1, uint16(n+1))
		n++
	}
	add(s.in, 40+len(r.Payload), 0)
	if !r.NoAnswer {
		add(s.out+4096-16, 16, 2)
		for off := 0; off < r.Room; off += 4096 {
			add(s.out+4096+uint64(off), min(4096, r.Room-off), 2)
		}
	}
	last := g.Mem[table+16*uint64(n-1):]
	binary.LittleEndian.PutUint16(last[12:], binary.LittleEndian.Uint16(last[12:])&^1)
	if g.Ring&FeatureIndirect != 0 {
		g.Q.SetDescriptor(g.Q.Desc, g.head(i), GuestBase+s.table, uint32(16*n), 4, 0)
	}
}

// head is the first descriptor of a slot.
func (g *Guest) head(i int) int { return i * (g.Options.QueueSize / g.Options.Depth) }

// Send fills a slot and makes it available.
func (g *Guest) Send(r FuseRequest) (int, error) {
	i, err := g.Fill(r)
	if err != nil {
		return 0, err
	}
	return i, g.Q.Submit(g.head(i))
}

// Receive waits for the next answer, in whichever order they come, and checks
// that it is whole and belongs to a request in flight.
func (g *Guest) Receive() (a FuseAnswer, err error) {
	head, written, err := g.Q.Wait()
	if err != nil {
		return a, err
	}
	i := head / (g.Options.QueueSize / g.Options.Depth)
	if i >= len(g.slots) || g.head(i) != head || !g.slots[i].busy {
		return a, fmt.Errorf("used entry with head %d, which is not in flight", head)
	}
	s := &g.slots[i]
	s.busy = false
	g.free = append(g.free, i)
	a.Slot = i
	if written == 0 && (s.opcode == FuseForget || s.opcode == FuseBatchForget) {
		return a, nil
	}
	h := g.Mem[s.out+4096-16:]
	if written < 16 || int(binary.LittleEndian.Uint32(h)) != written || binary.LittleEndian.Uint64(h[8:]) != s.unique {
		return a, fmt.Errorf("opcode %d, request %d: used entry says %d bytes, answer says %d bytes, request %d",
			s.opcode, s.unique, written, binary.LittleEndian.Uint32(h), binary.LittleEndian.Uint64(h[8:]))
	}
	a.Errno = syscall.Errno(-int32(binary.LittleEndian.Uint32(h[4:])))
	a.Payload = g.Mem[s.out+4096:][:written-16]
	return a, nil
}

// Call sends one request and waits for its answer; nothing else may be in
// flight. An error of the file system is a syscall.Errno.
func (g *Guest) Call(opcode uint32, node uint64, payload []byte, room int) ([]byte, error) {
	if _, err := g.Send(FuseRequest{Opcode: opcode, Node: node, Payload: payload, Room: room}); err != nil {
		return nil, err
	}
	a, err := g.Receive()
	if err == nil && a.Errno != 0 {
		err = a.Errno
	}
	return a.Payload, err
}

// LoadResult is what a load came to.
type LoadResult struct {
	Requests int
	Bytes    int64 // of answers, without their headers
	Errors   int   // answers that were errors
	Elapsed  time.Duration
}

// Load sends what next returns, with up to depth requests in flight (at most
// the guest's Depth), until next says that there is no more, and all are
// answered. each is called with every answer; nil for nothing. It does not
// allocate.
func (g *Guest) Load(depth int, next func() (FuseRequest, bool), each func(FuseAnswer) error) (res LoadResult, err error) {
	begin := time.Now()
	more := true
	for inFlight := 0; ; {
		first := true
		for more && inFlight < depth {
			var r FuseRequest
			if r, more = next(); !more {
				break
			}
			i, err := g.Fill(r)
			if err != nil {
				return res, err
			}
			g.Q.Offer(g.head(i))
			inFlight++
			first = false
		}
		if !first {
			if err := g.Q.Flush(); err != nil {
				return res, err
			}
		}
		if inFlight == 0 {
			res.Elapsed = time.Since(begin)
			return res, nil
		}
		for wait := true; wait || (inFlight > 0 && g.Q.Answers() > 0); wait = false {
			a, err := g.Receive()
			if err != nil {
				return res, err
			}
			inFlight--
			res.Requests++
			res.Bytes += int64(len(a.Payload))
			if a.Errno != 0 {
				res.Errors++
			}
			if each != nil {
				if err := each(a); err != nil {
					return res, err
				}
			}
		}
	}
}

// Repeat is a source of requests for Load: the same one n times.
func Repeat(n int, r FuseRequest) func() (FuseRequest, bool) {
	return func() (FuseRequest, bool) {
		n--
		return r, n >= 0
	}
}
