package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/virtqueue"
)

// inflight is the memory with the records of the requests in flight of all
// queues (virtqueue.Inflight). We make it, the front end keeps it, and hands it
// to the back end that takes our place when we die. It knows nothing of its
// layout but the size.
type inflight struct {
	whole     []byte // the mapping, nil for none
	records   []byte
	queueSize int // the records are for queues of up to that many descriptors
}

// of is the record of a queue, nil if there is none.
func (f *inflight) of(queue int) []byte {
	if f.whole == nil {
		return nil
	}
	n := virtqueue.InflightSize(f.queueSize)
	if (queue+1)*n > len(f.records) {
		return nil
	}
	return f.records[queue*n : (queue+1)*n : (queue+1)*n]
}

func (f *inflight) close() {
	unmap(f.whole)
	*f = inflight{}
}

// inflightMessage is the payload of both messages: the size and offset of the
// memory in its file, and for how many queues of which size it is.
type inflightMessage struct {
	size, offset      uint64
	queues, queueSize uint16
}

// inflightSize is what the message takes; some front ends send the padding of
// the structure too, and want it back.
const (
	inflightSize   = 20
	inflightPadded = 24
)

func (b *Backend) parseInflight(m *message) (v inflightMessage, err error) {
	if len(m.payload) != inflightSize && len(m.payload) != inflightPadded {
		return v, m.size(inflightSize)
	}
	v = inflightMessage{
		size: binary.LittleEndian.Uint64(m.payload), offset: binary.LittleEndian.Uint64(m.payload[8:]),
		queues: binary.LittleEndian.Uint16(m.payload[16:]), queueSize: binary.LittleEndian.Uint16(m.payload[18:]),
	}
	if int(v.queues) > len(b.vrings) {
		return v, fmt.Errorf("%d queues, there are %d", v.queues, len(b.vrings))
	}
	if v.queueSize > virtqueue.MaxSize {
		return v, fmt.Errorf("queues of %d, at most %d are possible", v.queueSize, virtqueue.MaxSize)
	}
	return v, nil
}

// makeInflight handles GET_INFLIGHT_FD: it answers with new memory, which the
// front end sends back with SET_INFLIGHT_FD before it starts the queues.
func (b *Backend) makeInflight(m *message) error {
	v, err := b.parseInflight(m)
	if err != nil {
		return err
	}
	if v.queues == 0 || v.queueSize == 0 {
		return errors.New("for no queue")
	}
	v.offset, v.size = 0, uint64(int(v.queues)*virtqueue.InflightSize(int(v.queueSize)))
	fd, err := unix.MemfdCreate("vhost-user in flight", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("make memory: %w", err)
	}
	defer unix.Close(fd) // the front end has its own copy
	if err := unix.Ftruncate(fd, int64(v.size)); err != nil {
		return fmt.Errorf("make memory of %d bytes: %w", v.size, err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return fmt.Errorf("seal memory: %w", err)
	}
	answer := make([]byte, len(m.payload))
	binary.LittleEndian.PutUint64(answer[0:], v.size)
	binary.LittleEndian.PutUint64(answer[8:], v.offset)
	binary.LittleEndian.PutUint16(answer[16:], v.queues)
	binary.LittleEndian.PutUint16(answer[18:], v.queueSize)
	return reply(b.conn, m, answer, fd)
}

// setInflight handles SET_INFLIGHT_FD.
func (b *Backend) setInflight(m *message) error {
	v, err := b.parseInflight(m)
	if err != nil {
		return err
	}
	if len(m.fds) != 1 {
		return fmt.Errorf("%d descriptors, want 1", len(m.fds))
	}
	if v.queues == 0 || v.queueSize == 0 || v.size < uint64(int(v.queues)*virtqueue.InflightSize(int(v.queueSize))) {
		return fmt.Errorf("%d bytes for %d queues of %d", v.size, v.queues, v.queueSize)
	}
	for _, queue := range b.vrings {
		if queue.running() {
			return fmt.Errorf("queue %d is running", queue.index)
		}
		queue.drain() // what was paused belongs to the memory before
	}
	whole, records, err := mapShared("memory of requests in flight", m.fds[0], v.offset, v.size)
	if err != nil {
		return err
	}
	b.inflight.close()
	b.inflight = inflight{whole: whole, records: records, queueSize: int(v.queueSize)}
	return nil
}
