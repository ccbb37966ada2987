package main

import "golang.org/x/sys/unix"

// disableSuspend turns off the key that stops the foreground processes: without
// job control nothing could continue them.
func disableSuspend(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Cc[unix.VSUSP] = 0 // _POSIX_VDISABLE
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
