package boot

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loopTries bounds the races with others for a free disk, and the wait for its
// node.
const loopTries = 100

// AttachLoop uses LOOP_CONFIGURE (Linux 5.8).
func (*machine) AttachLoop(path string) (string, error) {
	file, err := open(path, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(file)
	control, err := open("/dev/loop-control", unix.O_RDWR)
	if err != nil {
		return "", err
	}
	defer unix.Close(control)
	for try := 1; ; try++ {
		device, err := attach(control, file)
		if err == nil || try == loopTries || err != unix.EBUSY && err != unix.ENOENT {
			return device, err
		}
		time.Sleep(blindPause)
	}
}

func attach(control, file int) (string, error) {
	n, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", err
	}
	device := fmt.Sprintf("/dev/loop%d", n)
	loop, err := open(device, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(loop)
	config := unix.LoopConfig{Fd: uint32(file)}
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(loop), unix.LOOP_CONFIGURE, uintptr(unsafe.Pointer(&config)))
	if errno != 0 {
		return "", errno
	}
	// Without a user the disk would be free again: the caller's mount is one,
	// and this descriptor until then.
	if _, err := unix.FcntlInt(uintptr(loop), unix.F_DUPFD_CLOEXEC, 3); err != nil {
		return "", err
	}
	return device, nil
}
