package vhostusertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Hostile is a guest, or its VMM, that does what none should: it mutates rings,
// descriptors, requests and messages while requests are in flight. Each round is
// a connection of its own; the same seed does the same.
type Hostile struct {
	r *rand.Rand
	// Messages says that the VMM is hostile too, and not its guest alone.
	Messages bool

	Rounds   int // connections
	Sent     int // requests and messages
	Answered int
	Refused  int // connections that the daemon ended

	f     *FrontEnd
	q     *Queue
	nodes []uint64 // inodes that the guest knows of
	area  uint64   // offset in guest memory of requests and answers
	rate  float64  // how much of what it would break it does break
	fds   []int    // what is passed with messages
}

const (
	hostileMemory = 4 << 20
	hostileQueue  = 64
	hostileArea   = 1 << 20
)

// NewHostile makes a hostile guest.
func NewHostile(seed uint64) *Hostile { return &Hostile{r: rand.New(rand.NewPCG(seed, seed))} }

// Round connects to the daemon at socket, and does up to n things, or fewer if
// the daemon ends the connection, as it may. What it may not is go away: an error
// says that it cannot be connected to, or does not take a sane guest.
func (h *Hostile) Round(socket string, n int) error {
	h.Rounds++
	f, err := Connect(socket, hostileMemory)
	if err != nil {
		return err
	}
	defer f.Close()
	h.f = f
	if _, _, err = f.NegotiateBest(FeatureIndirect | FeatureEventIdx); err != nil {
		return fmt.Errorf("negotiate: %w", err)
	}
	if err := f.ShareRegions(1 + h.r.IntN(2)); err != nil {
		return fmt.Errorf("share memory: %w", err)
	}
	if h.q, err = f.NewQueue(1, hostileQueue, FeatureEventIdx); err != nil {
		return fmt.Errorf("start a queue: %w", err)
	}
	defer h.q.Close()
	h.area = f.Alloc(hostileArea, 4096)
	if err := h.explore(); err != nil {
		return err
	}
	h.rate = []float64{1, 0.1, 0.01, 0.001}[h.r.IntN(4)]
	h.openFDs()
	defer h.closeFDs()
	for range n {
		if err := h.step(); err != nil {
			h.Refused++
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
				return nil
			}
			return err
		}
	}
	return nil
}

// explore learns of some inodes, as a sane guest.
func (h *Hostile) explore() error {
	fuse := NewFuse(h.q)
	if _, err := fuse.Init(); err != nil {
		return fmt.Errorf("FUSE_INIT: %w", err)
	}
	h.nodes = []uint64{1}
	for level := 0; level < 2; level++ {
		dir := h.nodes[len(h.nodes)-1]
		b, err := fuse.Call(FuseReaddirplus, dir, ReadPayload(0, 0, 4096), 4096)
		if err != nil {
			continue
		}
		for len(b) > 128+24 {
			if node := binary.LittleEndian.Uint64(b); node != 0 {
				h.nodes = append(h.nodes, node)
			}
			b = b[min(len(b), (128+24+int(binary.LittleEndian.Uint32(b[128+16:]))+7)&^7):]
		}
	}
	return nil
}

func (h *Hostile) node() uint64 {
	if h.r.IntN(20) == 0 {
		return h.r.Uint64()
	}
	return h.nodes[h.r.IntN(len(h.nodes))]
}

// interesting are numbers at which checks go wrong.
var interesting = []uint64{0, 1, 2, 7, 15, 16, 17, 39, 40, 41, 63, 64, 65, 255, 4095, 4096, 4097, 1<<15 - 1, 1 << 15, 1<<16 - 1, 1 << 16, 1<<20 + 1,
	1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, GuestBase, GuestBase - 1, GuestBase + hostileMemory - 1, GuestBase + hostileMemory, GuestBase + hostileMemory/2 - 8,
	UserBase, UserBase + hostileMemory - 16, UserBase + hostileMemory, 1<<63 - 1, 1 << 63, ^uint64(0) - 4095, ^uint64(0) - 15, ^uint64(0)}

func (h *Hostile) number() uint64 {
	switch h.r.IntN(3) {
	case 0:
		return interesting[h.r.IntN(len(interesting))]
	case 1:
		return interesting[h.r.IntN(len(interesting))] + uint64(h.r.IntN(33)) - 16
	}
	return h.r.Uint64() >> h.r.IntN(64)
}

// step does one thing.
func (h *Hostile) step() error {
	for h.q.Answers() > 0 {
		h.q.usedIdx++
		h.Answered++
	}
	what := h.r.IntN(100)
	switch {
	case what < 45, h.r.Float64() > h.rate:
		if h.rate < 1 && uint16(h.q.availIdx-h.q.usedIdx) > hostileQueue/2 {
			time.Sleep(50 * time.Microsecond) // the daemon is behind
			return h.alive()
		}
		return h.request()
	case what < 60: // the descriptor table
		i := h.r.IntN(hostileQueue)
		h.q.SetDescriptor(h.q.Desc, i, h.address(), uint32(h.number()), uint16(h.r.IntN(8)), uint16(h.r.IntN(hostileQueue+2)))
	case what < 70: // requests, answers, indirect tables
		off := h.area + uint64(h.r.IntN(hostileArea-8))
		binary.LittleEndian.PutUint64(h.f.Mem[off:], h.number())
	case what < 75: // the available ring
		off := h.q.Avail + 2*uint64(h.r.IntN(hostileQueue+3))
		if h.r.IntN(10) > 0 && off < h.q.Avail+4 { // its index mostly stays: else the end comes soon
			return nil
		}
		binary.LittleEndian.PutUint16(h.f.Mem[off:], uint16(h.number()))
	case what < 80: // the used ring
		off := h.q.Used + 2*uint64(h.r.IntN(4*hostileQueue+3))
		binary.LittleEndian.PutUint16(h.f.Mem[off:], uint16(h.number()))
	case what < 85:
		return h.q.Notify()
	case what < 86 && h.r.IntN(40) == 0: // guest memory goes away
		if err := errors.Join(unix.Ftruncate(h.f.MemFD, int64(h.r.IntN(hostileMemory))), h.q.Notify()); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
		return io.EOF // ours too, so it is the end
	case h.Messages && what < 98:
		return h.message()
	}
	return h.alive()
}

// alive says whether the daemon has ended the connection.
func (h *Hostile) alive() error {
	raw, err := h.f.Conn.SyscallConn()
	if err != nil {
		return err
	}
	var end error
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if n, err := unix.Poll(p, 0); err == nil && n > 0 {
			end = io.EOF
		}
	})
	return errors.Join(err, end)
}

func (h *Hostile) address() uint64 {
	if h.r.IntN(8) == 0 {
		return h.number()
	}
	return GuestBase + h.area + uint64(h.r.IntN(hostileArea))
}

// request makes a chain available that is sane for the most part.
func (h *Hostile) request() error {
	opcodes := []uint32{FuseLookup, FuseForget, FuseGetattr, 4, FuseReadlink, 6, 8, FuseOpen, FuseRead, FuseRead, FuseRead, FuseWrite, FuseStatfs, FuseRelease,
		FuseGetxattr, 23, FuseInit, FuseOpendir, FuseReaddir, FuseReaddirplus, FuseReaddirplus, 36, FuseDestroy, FuseIoctl, FuseBatchForget, 43, 46, 48, 4096}
	in := h.area + uint64(h.r.IntN(hostileArea/2))&^7
	size := h.r.IntN(256)
	if h.r.IntN(20) == 0 {
		size = h.r.IntN(100 << 10)
	}
	b := h.f.Mem[in : in+40+uint64(size)]
	for i := range b[:min(len(b), 512)] {
		b[i] = byte(h.r.Uint32())
	}
	length := uint32(len(b))
	if h.r.IntN(10) == 0 {
		length = uint32(h.number())
	}
	opcode := opcodes[h.r.IntN(len(opcodes))]
	if len(b) < 512 && h.r.Float64() > h.rate {
		length = uint32(len(b))
	}
	binary.LittleEndian.PutUint32(b[0:], length)
	binary.LittleEndian.PutUint32(b[4:], opcode)
	binary.LittleEndian.PutUint64(b[16:], h.node())
	switch {
	case opcode == FuseLookup && size > 0:
		copy(b[40:], "many\x00")
	case (opcode == FuseRead || opcode == FuseReaddir || opcode == FuseReaddirplus) && size >= 24:
		copy(b[40:], ReadPayload(0, uint64(h.r.IntN(5000)), h.r.IntN(70000)))
		if h.r.IntN(5) == 0 {
			binary.LittleEndian.PutUint64(b[48:], h.number())
			binary.LittleEndian.PutUint32(b[56:], uint32(h.number()))
		}
	case opcode == FuseInit && size >= 16:
		copy(b[40:], InitPayload()[:16])
	}
	var chain []Descriptor
	for left := len(b); left > 0; {
		n := 1 + h.r.IntN(left)
		if h.r.IntN(3) > 0 {
			n = left
		}
		chain = append(chain, Descriptor{Offset: in + uint64(len(b)-left), Len: n})
		left -= n
	}
	for range h.r.IntN(8) {
		chain = append(chain, Descriptor{Offset: h.area + uint64(h.r.IntN(hostileArea/2))&^7, Len: 1 + h.r.IntN(70000), Write: true})
	}
	first := h.r.IntN(hostileQueue - 20)
	if h.rate < 1 {
		first = h.Sent % hostileQueue // not one in flight, for the most part
	}
	if h.rate < 1 || h.r.IntN(2) == 0 {
		table := h.area + uint64(h.r.IntN(hostileArea-4096))
		h.q.WriteDescriptors(table, 0, chain)
		h.q.SetDescriptor(h.q.Desc, first, GuestBase+table, uint32(16*len(chain)), 4, 0)
	} else {
		h.q.WriteDescriptors(h.q.Desc, first, chain[:min(len(chain), 20)])
	}
	h.Sent++
	// Not Submit: the flags and index are the guest's to break.
	h.q.Offer(first)
	atomic.StoreUint32(h.q.word(h.q.Avail), uint32(h.q.availIdx)<<16|uint32(h.r.IntN(2)))
	if h.r.IntN(4) > 0 {
		return h.q.Notify()
	}
	return nil
}

// message sends a message, sane for the most part, with any descriptors.
func (h *Hostile) message() error {
	requests := []uint32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 24, 25, 31, 32, 33, 34, 36, 37, 37, 38, 38, 39, 40, 41, 42, 43, 99}
	request := requests[h.r.IntN(len(requests))]
	var b []byte
	fds := 0
	queue := uint32(h.r.IntN(3))
	region := func() []byte {
		off := uint64(h.r.IntN(hostileMemory)) &^ 4095
		return Region(off, min(hostileMemory-off, uint64(4096*(1+h.r.IntN(64)))))
	}
	switch request {
	case SetFeatures:
		b = U64(FeatureProtocol | FeatureVersion1 | uint64(h.r.IntN(2))*FeatureEventIdx | uint64(h.r.IntN(2))*FeatureIndirect | uint64(h.r.IntN(2))*FeatureLogAll)
	case SetProtocolFeatures:
		b = U64(h.f.Protocol)
	case SetMemTable:
		b = append(State(1, 0), Region(0, hostileMemory)...)
		fds = 1
	case AddMemRegion:
		b, fds = append(U64(0), region()...), 1
	case RemoveMemRegion:
		b = append(U64(0), region()...)
	case SetVringNum, SetVringBase, GetVringBase, SetVringEnable:
		b = State(queue, uint32(h.r.IntN(2))*hostileQueue)
		if request == SetVringEnable {
			b = State(queue, uint32(h.r.IntN(2)))
		}
	case SetVringAddr:
		b = State(queue, uint32(h.r.IntN(2)))
		for _, off := range []uint64{h.q.Desc, h.q.Used, h.q.Avail} {
			b = append(b, U64(UserBase+off)...)
		}
		b = append(b, U64(GuestBase+h.q.Used)...)
	case SetVringKick, SetVringCall, SetVringErr, SetLogFD:
		b, fds = U64(uint64(queue)), 1
	case SetLogBase:
		b, fds = append(U64(uint64(h.r.IntN(hostileMemory))), U64(uint64(h.r.IntN(4096)))...), 1
	case GetInflightFD:
		b = append(make([]byte, 16), byte(h.r.IntN(70)), 0, hostileQueue, 0)
	case SetInflightFD:
		b, fds = append(append(U64(uint64(h.r.IntN(hostileMemory))), U64(uint64(h.r.IntN(4096)))...), 2, 0, hostileQueue, 0), 1
	case SetDeviceStateFD:
		b, fds = State(uint32(h.r.IntN(2)), 0), 1
	}
	if h.r.IntN(3) == 0 && len(b) >= 8 { // one of its numbers is another
		off := h.r.IntN(len(b)/4) * 4
		if off+8 <= len(b) && h.r.IntN(2) == 0 {
			binary.LittleEndian.PutUint64(b[off:], h.number())
		} else {
			binary.LittleEndian.PutUint32(b[off:], uint32(h.number()))
		}
	}
	if h.r.IntN(30) == 0 {
		b = b[:h.r.IntN(len(b)+1)]
	}
	if h.r.IntN(30) == 0 {
		fds = h.r.IntN(4)
	}
	var pass []int
	for range fds {
		pass = append(pass, h.fd(request))
	}
	h.Sent++
	if err := h.f.Conn.SetWriteDeadline(time.Now().Add(h.f.Limit)); err != nil {
		return err
	}
	if err := h.f.Send(request, uint32(h.r.IntN(2))*NeedReply, b, pass...); err != nil {
		return err
	}
	return h.discard()
}

// fd is a descriptor for a message: mostly of the right kind.
func (h *Hostile) fd(request uint32) int {
	if h.r.IntN(6) == 0 {
		return h.fds[h.r.IntN(len(h.fds))]
	}
	switch request {
	case SetVringKick:
		return h.q.Kick
	case SetVringCall, SetVringErr, SetLogFD:
		return h.q.Call
	case SetDeviceStateFD:
		return h.fds[h.r.IntN(2)]
	}
	return h.f.MemFD
}

// openFDs opens descriptors of many kinds.
func (h *Hostile) openFDs() {
	var p [2]int
	if unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK) == nil {
		h.fds = append(h.fds, p[0], p[1])
	}
	for _, name := range []string{"/dev/null", "/dev/zero", "/", "/dev/full"} {
		if fd, err := unix.Open(name, os.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			h.fds = append(h.fds, fd)
		}
	}
	if fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		h.fds = append(h.fds, fd)
	}
	if fd, err := unix.MemfdCreate("small", unix.MFD_CLOEXEC); err == nil {
		_ = unix.Ftruncate(fd, 5000)
		h.fds = append(h.fds, fd)
	}
	if fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC); err == nil {
		var full [8]byte
		binary.LittleEndian.PutUint64(full[:], 1<<64-2)
		_, _ = unix.Write(fd, full[:])
		h.fds = append(h.fds, fd)
	}
}

func (h *Hostile) closeFDs() {
	for _, fd := range h.fds {
		_ = unix.Close(fd)
	}
	h.fds = nil
}

// discard throws away the answers that are there.
func (h *Hostile) discard() error {
	raw, err := h.f.Conn.SyscallConn()
	if err != nil {
		return err
	}
	end := error(nil)
	err = raw.Control(func(fd uintptr) {
		var b [4096]byte
		oob := make([]byte, 256)
		for {
			n, oobn, _, _, err := unix.Recvmsg(int(fd), b[:], oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			if oobn > 0 {
				closeRights(oob[:oobn])
			}
			switch {
			case errors.Is(err, unix.EAGAIN):
				return
			case err != nil || n == 0:
				end = io.EOF
				return
			}
		}
	})
	return errors.Join(err, end)
}

func closeRights(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
		}
	}
}
