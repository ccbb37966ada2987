package fileblobs

import (
	"os"

	"golang.org/x/sys/unix"
)

// topDir is ext4's flag EXT4_TOPDIR_FL (chattr +T): the directories made in
// this one are not placed beside one another.
const topDir = 0x20000

// spread asks ext4 to put each staging directory, and with it the inodes of its
// files, in a block group of its own. An inode that was deleted seconds ago
// cannot be used again, and ext4 passes over each of them whenever it makes a
// file: where a collection, or the removal of another tree, has just deleted
// thousands, making a file takes 500 us instead of 40.
//
// Other file systems do not know the flag, which is no error.
func spread(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fd := int(f.Fd())
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil || fs.Type != unix.EXT4_SUPER_MAGIC {
		return nil
	}
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err == nil && flags&topDir == 0 {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags|topDir) // a hint: another user's directory stays as it is
	}
	return nil
}
