package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// messageType is the number of a message of the front end.
type messageType uint32

const (
	getFeatures         messageType = 1
	setFeatures         messageType = 2
	setOwner            messageType = 3
	resetOwner          messageType = 4
	setMemTable         messageType = 5
	setLogBase          messageType = 6
	setLogFD            messageType = 7
	setVringNum         messageType = 8
	setVringAddr        messageType = 9
	setVringBase        messageType = 10
	getVringBase        messageType = 11
	setVringKick        messageType = 12
	setVringCall        messageType = 13
	setVringErr         messageType = 14
	getProtocolFeatures messageType = 15
	setProtocolFeatures messageType = 16
	getQueueNum         messageType = 17
	setVringEnable      messageType = 18
	getInflightFD       messageType = 31
	setInflightFD       messageType = 32
	resetDevice         messageType = 34
	getMaxMemSlots      messageType = 36
	addMemRegion        messageType = 37
	removeMemRegion     messageType = 38
	setDeviceStateFD    messageType = 42
	checkDeviceState    messageType = 43
)

var messageNames = map[messageType]string{
	getFeatures: "GET_FEATURES", setFeatures: "SET_FEATURES", setOwner: "SET_OWNER", resetOwner: "RESET_OWNER",
	setMemTable: "SET_MEM_TABLE", setVringNum: "SET_VRING_NUM", setVringAddr: "SET_VRING_ADDR", setVringBase: "SET_VRING_BASE",
	getVringBase: "GET_VRING_BASE", setVringKick: "SET_VRING_KICK", setVringCall: "SET_VRING_CALL", setVringErr: "SET_VRING_ERR",
	getProtocolFeatures: "GET_PROTOCOL_FEATURES", setProtocolFeatures: "SET_PROTOCOL_FEATURES", getQueueNum: "GET_QUEUE_NUM",
	setVringEnable: "SET_VRING_ENABLE", resetDevice: "RESET_DEVICE", getMaxMemSlots: "GET_MAX_MEM_SLOTS",
	addMemRegion: "ADD_MEM_REG", removeMemRegion: "REM_MEM_REG",
	setLogBase: "SET_LOG_BASE", setLogFD: "SET_LOG_FD", getInflightFD: "GET_INFLIGHT_FD", setInflightFD: "SET_INFLIGHT_FD",
	setDeviceStateFD: "SET_DEVICE_STATE_FD", checkDeviceState: "CHECK_DEVICE_STATE",
}

func (t messageType) String() string {
	if s, ok := messageNames[t]; ok {
		return s
	}
	return fmt.Sprintf("request %d", uint32(t))
}

const (
	headerSize = 12
	// maxPayload is the longest payload that is read: a memory table of
	// MaxMemSlots regions.
	maxPayload = 8 + 32*MaxMemSlots
	// maxFDs is the most descriptors that one message carries.
	maxFDs = MaxMemSlots

	versionMask   = 3
	version       = 1
	flagReply     = 1 << 2
	flagNeedReply = 1 << 3

	vringIndexMask = 0xff
	vringNoFD      = 1 << 8
)

// message is one message of the front end. Its descriptors are closed by
// close, except those that were taken.
type message struct {
	request messageType
	flags   uint32
	payload []byte
	fds     []int
}

// close closes the descriptors that nobody took.
func (m *message) close() {
	for _, fd := range m.fds {
		_ = unix.Close(fd)
	}
	m.fds = nil
}

// takeFD hands the only descriptor of the message to the caller.
func (m *message) takeFD() (int, error) {
	if len(m.fds) != 1 {
		return -1, fmt.Errorf("%d descriptors, want 1", len(m.fds))
	}
	fd := m.fds[0]
	m.fds = nil
	return fd, nil
}

func (m *message) size(n int) error {
	if len(m.payload) != n {
		return fmt.Errorf("payload of %d bytes, want %d", len(m.payload), n)
	}
	return nil
}

func (m *message) u64() (uint64, error) {
	if err := m.size(8); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(m.payload), nil
}

// vringState is the payload of many messages: a queue and a number.
func (m *message) vringState() (index, num uint32, err error) {
	if err := m.size(8); err != nil {
		return 0, 0, err
	}
	return binary.LittleEndian.Uint32(m.payload), binary.LittleEndian.Uint32(m.payload[4:]), nil
}

// readMessage reads one whole message. The end of the stream between messages
// is io.EOF, within one io.ErrUnexpectedEOF.
func readMessage(c *net.UnixConn) (*message, error) {
	m := new(message)
	if err := m.read(c); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *message) read(c *net.UnixConn) error {
	var header [headerSize]byte
	if err := m.readFull(c, header[:]); err != nil {
		return err
	}
	m.request = messageType(binary.LittleEndian.Uint32(header[0:]))
	m.flags = binary.LittleEndian.Uint32(header[4:])
	size := binary.LittleEndian.Uint32(header[8:])
	if m.flags&versionMask != version || m.flags&flagReply != 0 {
		return fmt.Errorf("%v: flags %#x, want a message of version %d", m.request, m.flags, version)
	}
	if size > maxPayload {
		return fmt.Errorf("%v: payload of %d bytes, at most %d are possible", m.request, size, maxPayload)
	}
	m.payload = make([]byte, size)
	if err := m.readFull(c, m.payload); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("%v: %w", m.request, err)
	}
	return nil
}

// readFull fills b and collects the descriptors that come along.
func (m *message) readFull(c *net.UnixConn, b []byte) error {
	oob := make([]byte, unix.CmsgSpace(4*maxFDs))
	for done := 0; done < len(b); {
		n, oobn, flags, _, err := c.ReadMsgUnix(b[done:], oob)
		if oobn > 0 {
			fds, perr := parseFDs(oob[:oobn])
			m.fds = append(m.fds, fds...)
			switch {
			case perr != nil:
				return perr
			case flags&unix.MSG_CTRUNC != 0 || len(m.fds) > maxFDs:
				return fmt.Errorf("more than %d descriptors in one message", maxFDs)
			}
		}
		if errors.Is(err, io.EOF) && done > 0 {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		done += n
	}
	return nil
}

func parseFDs(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("control message: %w", err)
	}
	var fds []int
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		got, err := unix.ParseUnixRights(&m)
		if err != nil {
			return fds, fmt.Errorf("control message: %w", err)
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

// reply answers m with payload, and copies of descriptors.
func reply(c *net.UnixConn, m *message, payload []byte, fds ...int) error {
	b := make([]byte, headerSize, headerSize+len(payload))
	binary.LittleEndian.PutUint32(b[0:], uint32(m.request))
	binary.LittleEndian.PutUint32(b[4:], version|flagReply)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(payload)))
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err := c.WriteMsgUnix(append(b, payload...), oob, nil)
	return err
}

func closeFD(fd int) error {
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close descriptor: %w", err)
	}
	return nil
}
