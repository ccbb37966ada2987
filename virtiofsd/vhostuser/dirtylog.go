package vhostuser

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/virtqueue"
)

// dirtyLog is where the front end wants to see which pages of guest memory we
// have written, while it copies the memory to another machine.
type dirtyLog struct {
	whole  []byte // the mapping, nil for none
	log    *virtqueue.DirtyLog
	signal int // eventfd that is written to when there is something new, -1 for none
}

func (l *dirtyLog) close() {
	unmap(l.whole)
	l.whole, l.log = nil, nil
	replaceFD(&l.signal, -1)
}

// setLogBase handles SET_LOG_BASE, which has an answer of its own.
func (b *Backend) setLogBase(m *message) (answer []byte, err error) {
	if err := m.size(16); err != nil {
		return nil, err
	}
	if len(m.fds) != 1 {
		return nil, fmt.Errorf("%d descriptors, want 1", len(m.fds))
	}
	size, offset := binary.LittleEndian.Uint64(m.payload), binary.LittleEndian.Uint64(m.payload[8:])
	whole, bits, err := mapShared("dirty log", m.fds[0], offset, size)
	if err != nil {
		return nil, err
	}
	if offset%4 != 0 {
		unmap(whole)
		return nil, fmt.Errorf("dirty log at offset %d, want a multiple of 4", offset)
	}
	err = b.whileHalted(func() error {
		unmap(b.dirty.whole)
		b.dirty.whole, b.dirty.log = whole, virtqueue.NewDirtyLog(bits)
		return nil
	})
	return m.payload, err
}

// setLogFD handles SET_LOG_FD.
func (b *Backend) setLogFD(m *message) error {
	fd, err := m.takeFD()
	if err != nil {
		return err
	}
	return b.whileHalted(func() error {
		replaceFD(&b.dirty.signal, fd)
		return checkEventFD(fd)
	})
}

// checkEventFD refuses what is surely no eventfd: to write to a pipe or a
// terminal may block for ever.
func checkEventFD(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat descriptor: %w", err)
	}
	if st.Mode&unix.S_IFMT != 0 {
		return fmt.Errorf("descriptor of file type %#o, want an eventfd", st.Mode&unix.S_IFMT)
	}
	return nil
}
