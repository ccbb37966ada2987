package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxState bounds the state of a device, in bytes. It fits into a pipe, so
	// that it is written without waiting for the reader.
	maxState = 32 << 10

	stateSave, stateLoad = 0, 1
	phaseStopped         = 0

	// stateNoFD in the answer to SET_DEVICE_STATE_FD: the front end's descriptor
	// is used, there is none of ours. The low byte is 0 for no error.
	stateNoFD  = 1 << 8
	stateError = 1
)

// stateTransfer is the transfer of the device's state between the messages that
// begin it and ask for its end.
type stateTransfer struct {
	file *os.File
	done chan struct{} // nil if there was none; closed at the end
	err  error
}

// setDeviceStateFD handles SET_DEVICE_STATE_FD: the state is written to, or read
// from, the descriptor while the connection goes on.
func (b *Backend) setDeviceStateFD(m *message) (answer []byte, err error) {
	if err := m.size(8); err != nil {
		return nil, err
	}
	direction, phase := binary.LittleEndian.Uint32(m.payload), binary.LittleEndian.Uint32(m.payload[4:])
	fd, err := m.takeFD()
	if err != nil {
		return nil, err
	}
	if err := b.beginState(direction, phase, fd); err != nil {
		b.log.Error("device state", "error", err)
		return u64(stateNoFD | stateError), nil
	}
	return u64(stateNoFD), nil
}

// beginState takes over fd.
func (b *Backend) beginState(direction, phase uint32, fd int) error {
	file, err := openTransfer(fd)
	if err != nil {
		return err
	}
	err = func() error {
		if direction > stateLoad || phase != phaseStopped {
			return fmt.Errorf("direction %d in phase %d is not supported", direction, phase)
		}
		for _, v := range b.vrings {
			if v.running() || !v.late.empty() {
				return fmt.Errorf("queue %d is running", v.index)
			}
		}
		return nil
	}()
	if err != nil {
		_ = file.Close()
		return err
	}
	b.endState()
	t := &b.state
	t.file, t.done, t.err = file, make(chan struct{}), nil
	go func() {
		defer close(t.done)
		defer file.Close()
		if direction == stateSave {
			t.err = b.saveState(file)
		} else {
			t.err = b.loadState(file)
		}
	}()
	return nil
}

// openTransfer makes a file of fd that can be closed while it is read or
// written. For a pipe that needs a description of its own: what says that a
// read does not block is shared with the front end otherwise.
func openTransfer(fd int) (*os.File, error) {
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("stat descriptor: %w", err)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, fmt.Errorf("flags of descriptor: %w", err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("copy descriptor: %w", err)
		}
		return os.NewFile(uintptr(own), "device state"), nil
	case unix.S_IFIFO:
		own, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), flags&unix.O_ACCMODE|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open pipe: %w", err)
		}
		return os.NewFile(uintptr(own), "device state"), nil
	}
	return nil, errors.New("the descriptor is no pipe and no file")
}

func (b *Backend) saveState(w io.Writer) error {
	state, err := b.device.SaveState()
	if err != nil {
		return err
	}
	if len(state) > maxState {
		return fmt.Errorf("state of %d bytes, at most %d are possible", len(state), maxState)
	}
	_, err = w.Write(state)
	return err
}

func (b *Backend) loadState(r io.Reader) error {
	state, err := io.ReadAll(io.LimitReader(r, maxState+1))
	if err != nil {
		return err
	}
	if len(state) > maxState {
		return fmt.Errorf("state of more than %d bytes", maxState)
	}
	return b.device.LoadState(state)
}

// checkDeviceState handles CHECK_DEVICE_STATE: it waits for the end of the
// transfer, and says whether it went well.
func (b *Backend) checkDeviceState() []byte {
	t := &b.state
	if t.done == nil {
		b.log.Error("device state: none was transferred")
		return u64(stateError)
	}
	select {
	case <-t.done:
	case <-b.ending.Done():
	case <-time.After(b.device.drainLimit()):
		b.log.Error("device state: the transfer does not end")
		b.endState()
		return u64(stateError)
	}
	b.endState()
	if t.err != nil {
		b.log.Error("device state", "error", t.err)
		return u64(stateError)
	}
	return u64(0)
}

// endState ends a transfer that may be there.
func (b *Backend) endState() {
	if t := &b.state; t.done != nil {
		_ = t.file.SetDeadline(time.Unix(1, 0))
		<-t.done
		t.done = nil
	}
}
