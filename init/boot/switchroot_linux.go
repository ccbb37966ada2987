package boot

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// SwitchRoot checks all that it can before it changes anything; then it moves
// the mount to "/", makes that the root, and deletes what the old root held,
// never crossing into another mount. What cannot be deleted only costs memory.
func (*machine) SwitchRoot(root string) error {
	old, err := open("/", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(old)
	var oldStat, newStat, init unix.Stat_t
	if err := unix.Fstat(old, &oldStat); err != nil {
		return err
	}
	if err := unix.Stat(root, &newStat); err != nil {
		return err
	}
	if oldStat.Dev == newStat.Dev {
		return fmt.Errorf("%s is not a mount point", root)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(old, &fs); err != nil {
		return err
	}
	if fs.Type != unix.RAMFS_MAGIC && fs.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("/ is no initramfs: file system type %#x", fs.Type)
	}
	if err := unix.Lstat("/init", &init); err != nil || init.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("/ is no initramfs: it has no /init")
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the mount to /: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	deleteTree(old, oldStat.Dev)
	return nil
}

// deleteTree deletes what is in the directory dir, as far as it is on the file
// system dev.
func deleteTree(dir int, dev uint64) {
	buf := make([]byte, 32<<10)
	var entries []entry
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(dir, buf) })
		if err != nil || n == 0 {
			break
		}
		if entries, err = parseDirents(buf[:n], entries); err != nil {
			break
		}
	}
	for _, e := range entries {
		if unix.Unlinkat(dir, e.name, 0) == nil {
			continue
		}
		fd, err := unix.Openat(dir, e.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Dev == dev {
			deleteTree(fd, dev)
		}
		_ = unix.Close(fd)
		_ = unix.Unlinkat(dir, e.name, unix.AT_REMOVEDIR)
	}
}

func (*machine) Exec(path string, argv, env []string) error {
	// Opened anew, so that it belongs to the new root's /dev.
	if fd, err := open(kernelConsole, unix.O_RDWR); err == nil {
		for stream := range 3 {
			if err := unix.Dup3(fd, stream, 0); err != nil {
				return err
			}
		}
	}
	unix.Umask(0)
	return unix.Exec(path, argv, env)
}

// MemoryFile leaves the descriptor open across exec, at the file's beginning.
func (*machine) MemoryFile(name, text string) (int, error) {
	fd, err := unix.MemfdCreate(name, 0)
	if err != nil {
		return -1, err
	}
	if _, err := rawFile(fd).Write([]byte(text)); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
