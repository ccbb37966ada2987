package share

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ReadOnlyCommand is the hidden subcommand that runs [ExecReadOnly].
const ReadOnlyCommand = "exec-read-only"

// ExecReadOnly becomes a program that sees dir, with all below it, read-only, in
// a mount namespace of its own, whatever the program and the guest behind it do.
// It returns only an error.
func ExecReadOnly(dir string, argv []string) error {
	runtime.LockOSThread() // the namespace is this thread's, which executes
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts private: %w", err)
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s on itself: %w", dir, err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, dir, unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("make %s read-only: %w (Linux 5.12 or later)", dir, err)
	}
	return fmt.Errorf("execute %s: %w", argv[0], unix.Exec(argv[0], argv, os.Environ()))
}
