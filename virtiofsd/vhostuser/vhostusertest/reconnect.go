package vhostusertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
)

// Inflight is the memory in which a back end keeps a record of the requests in
// flight: for the VMM a descriptor and what it was told of it.
type Inflight struct {
	FD      int
	Payload []byte
}

// NewInflight asks the back end for such memory.
func (f *FrontEnd) NewInflight(queues, queueSize int) (Inflight, error) {
	b := make([]byte, 24) // with the structure's padding, as QEMU and cloud-hypervisor have it
	binary.LittleEndian.PutUint16(b[16:], uint16(queues))
	binary.LittleEndian.PutUint16(b[18:], uint16(queueSize))
	if err := f.Send(GetInflightFD, 0, b); err != nil {
		return Inflight{}, err
	}
	payload, fds, err := f.ReceiveFDs(GetInflightFD)
	if err != nil || len(fds) != 1 || len(payload) != len(b) {
		return Inflight{}, fmt.Errorf("memory for requests in flight: %d descriptors, %d bytes: %w", len(fds), len(payload), err)
	}
	return Inflight{fds[0], payload}, nil
}

// Reconnect replaces the connection by one to the back end that listens at
// socket now, as cloud-hypervisor does it: features are set as they were
// negotiated, and the memory is handed over. Queues have to be started then.
func (f *FrontEnd) Reconnect(socket string, ring uint64) error {
	_ = f.Conn.Close()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	f.Conn = conn
	if err := f.Send(SetOwner, 0, nil); err != nil {
		return err
	}
	if _, err := f.Ask(GetFeatures, nil); err != nil {
		return err
	}
	if err := f.Send(SetProtocolFeatures, 0, U64(f.Protocol)); err != nil {
		return err
	}
	return errors.Join(f.Do(SetFeatures, U64(ring)), f.ShareMemory())
}

// Restart hands the queue to a back end that takes the place of one that died
// with requests in flight, as cloud-hypervisor does: it says the available index
// for the base, and the back end finds in the record what to do.
func (q *Queue) Restart(record Inflight) error {
	if err := q.front.Do(SetInflightFD, record.Payload, record.FD); err != nil {
		return err
	}
	return q.StartAt(int(q.availIdx))
}
