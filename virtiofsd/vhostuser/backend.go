package vhostuser

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"storeboot/virtiofsd/virtqueue"
)

// MaxQueues is the most queues of a device.
const MaxQueues = 256

// Virtio and vhost-user feature bits that we offer: those that are implemented.
const (
	featureLogAll   = 1 << 26
	featureIndirect = 1 << 28
	featureEventIdx = 1 << 29
	featureProtocol = 1 << 30
	featureVersion1 = 1 << 32
	offeredFeatures = featureLogAll | featureIndirect | featureEventIdx | featureProtocol | featureVersion1

	protocolMQ          = 1 << 0
	protocolLogShm      = 1 << 1
	protocolReplyAck    = 1 << 3
	protocolInflight    = 1 << 12
	protocolReset       = 1 << 13
	protocolMemSlots    = 1 << 15
	protocolDeviceState = 1 << 19
)

// offeredProtocol are the protocol features, which depend on the device.
func (b *Backend) offeredProtocol() uint64 {
	const always = protocolMQ | protocolLogShm | protocolReplyAck | protocolInflight | protocolReset | protocolMemSlots
	if b.device.SaveState != nil {
		return always | protocolDeviceState
	}
	return always
}

// Backend serves one connection.
type Backend struct {
	conn   *net.UnixConn
	device Device
	log    *slog.Logger
	ctx    context.Context // of the requests
	ending context.Context // of the connection

	features uint64
	protocol uint64
	memory   memoryMap
	vrings   []*vring
	inflight inflight
	dirty    dirtyLog
	state    stateTransfer

	monitor   monitor
	workers   sync.WaitGroup
	lateCount atomic.Int32 // requests that are handled outside of their loops
	freeMu    sync.Mutex
	free      []*worker

	failMu sync.Mutex
	fail   error // why a queue broke
}

// NewBackend makes the back end of conn, which it closes at the end of
// [Backend.Serve].
func NewBackend(conn *net.UnixConn, device Device, log *slog.Logger) *Backend {
	b := &Backend{conn: conn, device: device, log: log, dirty: dirtyLog{signal: -1}}
	for i := range min(max(device.Queues, 1), MaxQueues) {
		b.vrings = append(b.vrings, newVring(b, i))
	}
	return b
}

// Serve handles the connection until the front end closes it, which is no
// error, or breaks the protocol, or ctx is done. When it returns no request is
// being handled, and the guest's memory is unmapped.
func (b *Backend) Serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = b.conn.Close() })()
	var gone context.CancelFunc
	// Requests are cancelled by close, after their loops were told that what comes
	// then is no answer.
	b.ending = ctx
	b.ctx, gone = context.WithCancel(context.WithoutCancel(ctx))
	b.monitor.start()
	defer b.close(gone)
	for {
		m, err := readMessage(b.conn)
		if err == nil {
			err = b.dispatch(m)
			m.close()
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case b.failure() != nil:
			return b.failure()
		case errors.Is(err, io.EOF):
			return nil
		default:
			return err
		}
	}
}

// close ends what the connection has: nobody waits for the answers, so the
// requests are cancelled.
func (b *Backend) close(cancelRequests func()) {
	_ = b.conn.Close()
	for _, v := range b.vrings {
		if v.running() {
			v.tell(stopGone)
		}
	}
	cancelRequests()
	for _, v := range b.vrings {
		if v.running() {
			v.joined()
		}
	}
	b.monitor.close()
	b.workers.Wait()
	for _, v := range b.vrings {
		v.drop()
		v.setKick(-1)
		v.setCall(-1)
		replaceFD(&v.wake, -1)
	}
	b.endState()
	b.inflight.close()
	b.dirty.close()
	_ = b.memory.replace(nil)
}

// watch tells the monitor which loops there are.
func (b *Backend) watch() {
	var loops []*loop
	for _, v := range b.vrings {
		if v.running() {
			loops = append(loops, v.loop)
		}
	}
	b.monitor.loops.Store(&loops)
}

// queueFailed is called by a worker whose queue broke: the connection ends.
func (b *Backend) queueFailed(err error) {
	b.failMu.Lock()
	if b.fail == nil {
		b.fail = err
	}
	b.failMu.Unlock()
	_ = b.conn.Close()
}

func (b *Backend) failure() error {
	b.failMu.Lock()
	defer b.failMu.Unlock()
	return b.fail
}

// dispatch handles one message and answers it. An error ends the connection,
// after the front end was told if it asked to be.
func (b *Backend) dispatch(m *message) error {
	answer, err := b.message(m)
	if err != nil {
		err = fmt.Errorf("%v: %w", m.request, err)
	}
	switch {
	case err == nil && m.request == getInflightFD: // has answered, with a descriptor
		return nil
	case err == nil && answer != nil:
		return reply(b.conn, m, answer)
	case m.flags&flagNeedReply != 0 && b.protocol&protocolReplyAck != 0:
		status := uint64(0)
		if err != nil {
			status = 1
		}
		return errors.Join(err, reply(b.conn, m, u64(status)))
	}
	return err
}

func u64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// message carries m out and returns the answer, nil if it has none of its own.
func (b *Backend) message(m *message) (answer []byte, err error) {
	b.log.Debug("vhost-user message", "request", m.request, "bytes", len(m.payload), "fds", len(m.fds))
	switch m.request {
	case getFeatures:
		return u64(offeredFeatures), nil
	case setFeatures:
		return nil, b.setFeatures(m)
	case getProtocolFeatures:
		return u64(b.offeredProtocol()), nil
	case setProtocolFeatures:
		return nil, b.setProtocolFeatures(m)
	case setOwner:
		return nil, nil
	case getQueueNum:
		return u64(uint64(len(b.vrings))), nil
	case getMaxMemSlots:
		return u64(MaxMemSlots), nil
	case setMemTable:
		return nil, b.whileHalted(func() error { return b.memory.set(m) })
	case addMemRegion:
		return nil, b.whileHalted(func() error { return b.memory.add(m) })
	case removeMemRegion:
		return nil, b.whileHalted(func() error { return b.memory.remove(m) })
	case setLogBase:
		return b.setLogBase(m)
	case setLogFD:
		return nil, b.setLogFD(m)
	case getInflightFD:
		return nil, b.makeInflight(m)
	case setInflightFD:
		return nil, b.setInflight(m)
	case setDeviceStateFD, checkDeviceState:
		if b.device.SaveState == nil {
			break
		}
		if m.request == checkDeviceState {
			return b.checkDeviceState(), nil
		}
		return b.setDeviceStateFD(m)
	case resetOwner, resetDevice:
		b.reset()
		return nil, nil
	case setVringNum, setVringAddr, setVringBase, getVringBase, setVringEnable:
		return b.vringMessage(m)
	case setVringKick, setVringCall, setVringErr:
		return nil, b.vringFD(m)
	}
	return nil, errors.New("not supported, and not offered")
}

func (b *Backend) setFeatures(m *message) error {
	f, err := m.u64()
	if err != nil {
		return err
	}
	if f&^offeredFeatures != 0 {
		return fmt.Errorf("features %#x were not offered", f&^offeredFeatures)
	}
	if (f^b.features)&^featureLogAll != 0 {
		for _, v := range b.vrings {
			if v.running() {
				return errors.New("the features of a running queue cannot change")
			}
		}
	}
	return b.whileHalted(func() error {
		b.features = f
		for _, v := range b.vrings {
			v.config.EventIndex = f&featureEventIdx != 0
			v.config.IndirectOK = f&featureIndirect != 0
			if f&featureProtocol == 0 {
				v.enabled = true // there is no SET_VRING_ENABLE then
			}
		}
		return nil
	})
}

func (b *Backend) setProtocolFeatures(m *message) error {
	f, err := m.u64()
	if err != nil {
		return err
	}
	if more := f &^ b.offeredProtocol(); more != 0 {
		return fmt.Errorf("protocol features %#x were not offered", more)
	}
	b.protocol = f
	return nil
}

// whileHalted halts all queues, changes something, the memory table say, and
// starts them again with it. Late requests go on with what they began with.
func (b *Backend) whileHalted(change func() error) error {
	for _, v := range b.vrings {
		v.halt()
	}
	if err := change(); err != nil {
		return err
	}
	for _, v := range b.vrings {
		if err := b.startIfReady(v); err != nil {
			return err
		}
	}
	return nil
}

// reset stops and disables all queues; the memory table stays.
func (b *Backend) reset() {
	for _, v := range b.vrings {
		v.drain()
		v.setKick(-1)
		v.setCall(-1)
		v.enabled, v.hasAddr = false, false
		v.config.Base = 0
	}
}

// startIfReady starts a queue that is started, enabled and set up, if it does
// not run.
func (b *Backend) startIfReady(v *vring) error {
	if v.running() || v.kick < 0 || !v.enabled || !v.hasAddr || b.memory.table == nil {
		return nil
	}
	return v.start(b.memory.table, goOn)
}

func (b *Backend) vring(index uint32) (*vring, error) {
	if index >= uint32(len(b.vrings)) {
		return nil, fmt.Errorf("queue %d, there are %d", index, len(b.vrings))
	}
	return b.vrings[index], nil
}

// vringMessage handles the messages on one queue that carry no descriptor.
func (b *Backend) vringMessage(m *message) (answer []byte, err error) {
	if m.request == setVringAddr {
		return nil, b.setVringAddr(m)
	}
	index, num, err := m.vringState()
	if err != nil {
		return nil, err
	}
	v, err := b.vring(index)
	if err != nil {
		return nil, err
	}
	if v.running() && (m.request == setVringNum || m.request == setVringBase) {
		return nil, fmt.Errorf("queue %d is running", index)
	}
	if m.request == setVringNum || m.request == setVringBase {
		v.drain() // what was paused belongs to the queue as it was
	}
	switch m.request {
	case setVringNum:
		if num < 1 || num > virtqueue.MaxSize || num&(num-1) != 0 {
			return nil, fmt.Errorf("queue size %d, want a power of two up to %d", num, virtqueue.MaxSize)
		}
		v.config.Size = int(num)
	case setVringBase:
		if num > 0xffff {
			return nil, fmt.Errorf("base %d, want at most 65535", num)
		}
		v.config.Base = uint16(num)
	case getVringBase:
		v.drain()
		v.setKick(-1)
		answer = binary.LittleEndian.AppendUint32(nil, index)
		return binary.LittleEndian.AppendUint32(answer, uint32(v.config.Base)), nil
	case setVringEnable:
		if num > 1 {
			return nil, fmt.Errorf("enable %d, want 0 or 1", num)
		}
		v.enabled = num == 1
		if !v.enabled {
			v.pause()
		}
		return nil, b.startIfReady(v)
	}
	return nil, nil
}

func (b *Backend) setVringAddr(m *message) error {
	if err := m.size(40); err != nil {
		return err
	}
	v, err := b.vring(binary.LittleEndian.Uint32(m.payload))
	if err != nil {
		return err
	}
	const logUsed = 1
	flags := binary.LittleEndian.Uint32(m.payload[4:])
	if flags&^logUsed != 0 {
		return fmt.Errorf("flags %#x", flags)
	}
	c := v.config
	c.Desc = binary.LittleEndian.Uint64(m.payload[8:])
	c.Used = binary.LittleEndian.Uint64(m.payload[16:])
	c.Available = binary.LittleEndian.Uint64(m.payload[24:])
	// Logging may begin and end while the queue runs.
	if v.running() && (c.Desc != v.config.Desc || c.Used != v.config.Used || c.Available != v.config.Available) {
		return fmt.Errorf("queue %d is running", v.index)
	}
	c.LogUsed, c.UsedAddr = flags&logUsed != 0, binary.LittleEndian.Uint64(m.payload[32:])
	v.halt()
	c.Base = v.config.Base
	v.config, v.hasAddr = c, true
	return b.startIfReady(v)
}

// vringFD handles the messages that carry an eventfd for a queue.
func (b *Backend) vringFD(m *message) error {
	n, err := m.u64()
	if err != nil {
		return err
	}
	if n&^(vringIndexMask|vringNoFD) != 0 {
		return fmt.Errorf("value %#x", n)
	}
	v, err := b.vring(uint32(n & vringIndexMask))
	if err != nil {
		return err
	}
	fd := -1
	if n&vringNoFD == 0 {
		if fd, err = m.takeFD(); err != nil {
			return err
		}
	} else if m.request == setVringKick {
		return errors.New("without a descriptor: polling a queue is not supported")
	}
	if m.request == setVringErr { // an error ends the connection: nothing to signal
		if fd >= 0 {
			return closeFD(fd)
		}
		return nil
	}
	if fd >= 0 && m.request == setVringCall {
		if err := checkEventFD(fd); err != nil {
			return errors.Join(err, closeFD(fd))
		}
	}
	v.halt()
	if m.request == setVringKick {
		v.setKick(fd)
	} else {
		v.setCall(fd)
	}
	return b.startIfReady(v)
}
