package vhostuser

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// maxShared bounds what a front end has us map besides guest memory: a dirty log
// of a guest of 2 PiB, or the record of all queues at their largest.
const maxShared = 1 << 33

// mapShared maps size bytes at offset of a file that the front end shares with
// us, which is long enough.
func mapShared(what string, fd int, offset, size uint64) (whole, part []byte, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, nil, fmt.Errorf("stat %s: %w", what, err)
	}
	if size == 0 || size > maxShared || offset > 1<<46 || st.Size < 0 || offset+size > uint64(st.Size) {
		return nil, nil, fmt.Errorf("%s of %d bytes at offset %d of a file of %d bytes", what, size, offset, st.Size)
	}
	start := offset &^ uint64(unix.Getpagesize()-1)
	whole, err = unix.Mmap(fd, int64(start), int(offset+size-start), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map %s of %d bytes: %w", what, size, err)
	}
	return whole, whole[offset-start:], nil
}

func unmap(whole []byte) {
	if whole != nil {
		_ = unix.Munmap(whole)
	}
}
