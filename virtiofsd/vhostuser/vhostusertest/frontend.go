package vhostusertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Requests of the protocol, by their numbers.
const (
	GetFeatures         = 1
	SetFeatures         = 2
	SetOwner            = 3
	ResetOwner          = 4
	SetMemTable         = 5
	SetVringNum         = 8
	SetVringAddr        = 9
	SetVringBase        = 10
	GetVringBase        = 11
	SetVringKick        = 12
	SetVringCall        = 13
	SetVringErr         = 14
	GetProtocolFeatures = 15
	SetProtocolFeatures = 16
	GetQueueNum         = 17
	SetVringEnable      = 18
	SetLogBase          = 6
	SetLogFD            = 7
	GetInflightFD       = 31
	SetInflightFD       = 32
	ResetDevice         = 34
	GetMaxMemSlots      = 36
	AddMemRegion        = 37
	RemoveMemRegion     = 38
	SetDeviceStateFD    = 42
	CheckDeviceState    = 43

	// NeedReply is the header flag that asks for an acknowledgement.
	NeedReply = 1 << 3

	FeatureLogAll   = 1 << 26
	FeatureIndirect = 1 << 28
	FeatureEventIdx = 1 << 29
	FeatureProtocol = 1 << 30
	FeatureVersion1 = 1 << 32

	ProtocolMQ          = 1 << 0
	ProtocolLogShm      = 1 << 1
	ProtocolReply       = 1 << 3
	ProtocolInflight    = 1 << 12
	ProtocolReset       = 1 << 13
	ProtocolMemSlots    = 1 << 15
	ProtocolDeviceState = 1 << 19
)

// Guest memory of a front end: where it is for the guest and for the VMM. The
// two differ, so that one taken for the other is found out.
const (
	GuestBase = 0x1_0000_0000
	UserBase  = 0x7000_0000_0000
)

// FrontEnd is a VMM's side of one connection.
type FrontEnd struct {
	Conn  *net.UnixConn
	Mem   []byte // guest memory
	MemFD int
	// Limit bounds the wait for an answer.
	Limit time.Duration
	// Protocol are the protocol features that were acknowledged.
	Protocol uint64

	alloc uint64 // offset in Mem of what is not used yet
}

// Connect connects to a back end's socket with size bytes of guest memory.
func Connect(socket string, size int) (*FrontEnd, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	f, err := New(conn, size)
	if err != nil {
		_ = conn.Close()
	}
	return f, err
}

// New makes the front end of a connection.
func New(conn *net.UnixConn, size int) (*FrontEnd, error) {
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &FrontEnd{Conn: conn, Mem: mem, MemFD: fd, Limit: 30 * time.Second, alloc: 4096}, nil
}

// Close ends the connection and frees guest memory.
func (f *FrontEnd) Close() {
	_ = f.Conn.Close()
	_ = unix.Munmap(f.Mem)
	_ = unix.Close(f.MemFD)
}

// Alloc takes n bytes of guest memory, aligned, and returns their offset in Mem.
// Nothing is ever given back.
func (f *FrontEnd) Alloc(n, align int) uint64 {
	off := (f.alloc + uint64(align) - 1) &^ (uint64(align) - 1)
	if off+uint64(n) > uint64(len(f.Mem)) {
		panic(fmt.Sprintf("guest memory of %d bytes is used up", len(f.Mem)))
	}
	f.alloc = off + uint64(n)
	return off
}

// Send sends a message with descriptors.
func (f *FrontEnd) Send(request, flags uint32, payload []byte, fds ...int) error {
	b := binary.LittleEndian.AppendUint32(nil, request)
	b = binary.LittleEndian.AppendUint32(b, flags|1)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err := f.Conn.WriteMsgUnix(append(b, payload...), oob, nil)
	return err
}

// Receive reads the answer to request.
func (f *FrontEnd) Receive(request uint32) ([]byte, error) {
	b, fds, err := f.ReceiveFDs(request)
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	return b, err
}

// ReceiveFDs reads the answer to request, and the descriptors that come with it,
// which are the caller's.
func (f *FrontEnd) ReceiveFDs(request uint32) (payload []byte, fds []int, err error) {
	if err := f.Conn.SetReadDeadline(time.Now().Add(f.Limit)); err != nil {
		return nil, nil, err
	}
	var h [12]byte
	oob := make([]byte, unix.CmsgSpace(4*8))
	n, oobn, _, _, err := f.Conn.ReadMsgUnix(h[:], oob)
	if oobn > 0 {
		if messages, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil {
			for i := range messages {
				if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
					fds = append(fds, got...)
				}
			}
		}
	}
	if err == nil {
		_, err = io.ReadFull(f.Conn, h[n:])
	}
	if err != nil {
		return nil, fds, err
	}
	if got := binary.LittleEndian.Uint32(h[0:]); got != request {
		return nil, fds, fmt.Errorf("answer to request %d, want %d", got, request)
	}
	if flags := binary.LittleEndian.Uint32(h[4:]); flags != 1|1<<2 {
		return nil, fds, fmt.Errorf("answer with flags %#x", flags)
	}
	payload = make([]byte, binary.LittleEndian.Uint32(h[8:]))
	_, err = io.ReadFull(f.Conn, payload)
	return payload, fds, err
}

// Ask sends a message that has an answer of its own, and returns its number.
func (f *FrontEnd) Ask(request uint32, payload []byte) (uint64, error) {
	if err := f.Send(request, 0, payload); err != nil {
		return 0, err
	}
	b, err := f.Receive(request)
	if err != nil || len(b) != 8 {
		return 0, fmt.Errorf("answer of %d bytes to request %d: %w", len(b), request, err)
	}
	return binary.LittleEndian.Uint64(b), nil
}

// Do sends a message and waits for its acknowledgement; from a back end that
// has none, for the answer to another message.
func (f *FrontEnd) Do(request uint32, payload []byte, fds ...int) error {
	if f.Protocol&ProtocolReply == 0 {
		if err := f.Send(request, 0, payload, fds...); err != nil {
			return err
		}
		_, err := f.Ask(GetFeatures, nil)
		return err
	}
	if err := f.Send(request, NeedReply, payload, fds...); err != nil {
		return err
	}
	b, err := f.Receive(request)
	if err != nil {
		return fmt.Errorf("request %d: %w", request, err)
	}
	if len(b) != 8 || binary.LittleEndian.Uint64(b) != 0 {
		return fmt.Errorf("request %d: refused: % x", request, b)
	}
	return nil
}

// U64 and State encode payloads.
func U64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// State is the payload of messages on a queue.
func State(queue, num uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, queue), num)
}

// Region is the description of guest memory from offset on.
func Region(offset, size uint64) []byte {
	var b []byte
	for _, v := range []uint64{GuestBase + offset, size, UserBase + offset, offset} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// knownProtocol are the protocol features that a front end acknowledges if they
// are offered.
const knownProtocol = ProtocolMQ | ProtocolLogShm | ProtocolReply | ProtocolInflight | ProtocolReset | ProtocolMemSlots | ProtocolDeviceState

// Negotiate does what both VMMs do first: features, owner, queue count. All of
// features have to be offered. It returns the number of queues.
func (f *FrontEnd) Negotiate(features uint64) (queues int, err error) {
	queues, ring, err := f.NegotiateBest(features)
	if err == nil && ring != features {
		err = fmt.Errorf("features %#x were not offered", features&^ring)
	}
	return queues, err
}

// NegotiateBest does the same with those of features that are offered, which it
// returns. What every daemon has to offer is always among them.
func (f *FrontEnd) NegotiateBest(features uint64) (queues int, ring uint64, err error) {
	if err := f.Send(SetOwner, 0, nil); err != nil {
		return 0, 0, err
	}
	offered, err := f.Ask(GetFeatures, nil)
	if err != nil {
		return 0, 0, err
	}
	const must = FeatureProtocol | FeatureVersion1
	if offered&must != must {
		return 0, 0, fmt.Errorf("features %#x were not offered", must&^offered)
	}
	ring = features&offered | must
	protocol, err := f.Ask(GetProtocolFeatures, nil)
	if err != nil {
		return 0, 0, err
	}
	f.Protocol = protocol & knownProtocol
	if err := f.Send(SetProtocolFeatures, 0, U64(f.Protocol)); err != nil {
		return 0, 0, err
	}
	queues = 2
	if f.Protocol&ProtocolMQ != 0 {
		n, err := f.Ask(GetQueueNum, nil)
		if err != nil {
			return 0, 0, err
		}
		queues = int(n)
	}
	return queues, ring, f.Do(SetFeatures, U64(ring))
}

// ShareMemory hands over guest memory as one table, as cloud-hypervisor does.
func (f *FrontEnd) ShareMemory() error { return f.ShareRegions(1) }

// ShareRegions hands over guest memory in n regions: one by one, as QEMU does, if
// the back end offers that and there are several, else as one table.
func (f *FrontEnd) ShareRegions(n int) error {
	size := uint64(len(f.Mem)) / uint64(n) &^ 4095
	table := State(uint32(n), 0)
	var fds []int
	for i := range uint64(n) {
		length := size
		if int(i) == n-1 {
			length = uint64(len(f.Mem)) - size*i
		}
		region := Region(size*i, length)
		if n > 1 && f.Protocol&ProtocolMemSlots != 0 {
			if err := f.Do(AddMemRegion, append(U64(0), region...), f.MemFD); err != nil {
				return err
			}
			continue
		}
		table, fds = append(table, region...), append(fds, f.MemFD)
	}
	if len(fds) == 0 {
		return nil
	}
	return f.Do(SetMemTable, table, fds...)
}
