package boot

import (
	"fmt"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"storeboot/internal/bootproto"
)

// specialMounts are the file systems of every system, parents first, with the
// options of NixOS' boot.specialFileSystems. The group 3 of terminals is the
// number that NixOS gives "tty".
func specialMounts() []bootproto.Mount {
	return []bootproto.Mount{
		{Source: "proc", Target: "/proc", Type: "proc", Options: "nosuid,noexec,nodev"},
		{Source: "sysfs", Target: "/sys", Type: "sysfs", Options: "nosuid,noexec,nodev"},
		{Source: "devtmpfs", Target: "/dev", Type: "devtmpfs", Options: "nosuid,strictatime,mode=755,size=5%"},
		{Source: "devpts", Target: "/dev/pts", Type: "devpts", Options: "nosuid,noexec,mode=620,ptmxmode=0666,gid=3"},
		{Source: "tmpfs", Target: "/dev/shm", Type: "tmpfs", Options: "nosuid,nodev,strictatime,mode=1777,size=50%"},
		{Source: "tmpfs", Target: "/run", Type: "tmpfs", Options: "nosuid,nodev,strictatime,mode=755,size=25%"},
		{Source: "tmpfs", Target: "/tmp", Type: "tmpfs", Options: "nosuid,nodev,strictatime,mode=1777,size=50%"},
	}
}

// keysMount is one more that NixOS makes; only a system needs it.
func keysMount() bootproto.Mount {
	return bootproto.Mount{Source: "ramfs", Target: "/run/keys", Type: "ramfs", Options: "nosuid,nodev,mode=750"}
}

// deviceLinks are what devtmpfs does not make: shells and stage 2 of NixOS use
// them before anything else could.
func deviceLinks() [][2]string {
	return [][2]string{
		{"/proc/self/fd", "/dev/fd"},
		{"/proc/self/fd/0", "/dev/stdin"},
		{"/proc/self/fd/1", "/dev/stdout"},
		{"/proc/self/fd/2", "/dev/stderr"},
	}
}

// mountSpecial is the first step: without it nothing can be logged or loaded.
func (b *boot) mountSpecial() error {
	for _, m := range specialMounts() {
		if err := b.mount(m); err != nil {
			return err
		}
	}
	for _, l := range deviceLinks() {
		if err := b.sys.Symlink(l[0], l[1]); err != nil {
			return fmt.Errorf("link %s: %w", l[1], err)
		}
	}
	// The kernel would drop all but ten records in five seconds. The new line
	// belongs to the word (kernel/printk, devkmsg_sysctl_set_loglvl).
	_ = b.sys.WriteFile("/proc/sys/kernel/printk_devkmsg", "on\n")
	w, err := b.sys.OpenKernelLog()
	if err != nil {
		return fmt.Errorf("open /dev/kmsg: %w", err)
	}
	b.log.w = w
	return nil
}

// mountExtra makes the mounts that the image asks for.
func (b *boot) mountExtra() error {
	for _, m := range b.spec.Mounts {
		if err := b.mount(m); err != nil {
			return err
		}
	}
	return nil
}

// mount makes the target and mounts m there.
func (b *boot) mount(m bootproto.Mount) error {
	if err := b.mkdirAll(m.Target); err != nil {
		return err
	}
	flags, data := mountOptions(m.Options)
	b.debug("mount " + m.Target + " (" + m.Type + ") " + m.Options)
	if err := b.sys.Mount(m.Source, m.Target, m.Type, flags, data); err != nil {
		return fmt.Errorf("mount %s (%s): %w", m.Target, m.Type, err)
	}
	return nil
}

// mkdirAll makes dir and what is missing above it.
func (b *boot) mkdirAll(dir string) error {
	if dir == "/" {
		return nil
	}
	if _, err := b.sys.Stat(dir); err == nil {
		return nil
	}
	if err := b.mkdirAll(path.Dir(dir)); err != nil {
		return err
	}
	if err := b.sys.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make directory %s: %w", dir, err)
	}
	return nil
}

// mountOptions splits options as mount(8) takes them into the flags of mount(2)
// and the data for the file system.
func mountOptions(options string) (flags uintptr, data string) {
	var rest []string
	for o := range strings.SplitSeq(options, ",") {
		switch set, clear := mountFlag(o); {
		case set != 0:
			flags |= set
		case clear != 0:
			flags &^= clear
		case o != "" && o != "defaults":
			rest = append(rest, o)
		}
	}
	return flags, strings.Join(rest, ",")
}

// mountFlag is the flag that a word sets or clears, 0 and 0 if it is none.
func mountFlag(word string) (set, clear uintptr) {
	switch word {
	case "ro":
		return unix.MS_RDONLY, 0
	case "rw":
		return 0, unix.MS_RDONLY
	case "nosuid":
		return unix.MS_NOSUID, 0
	case "suid":
		return 0, unix.MS_NOSUID
	case "nodev":
		return unix.MS_NODEV, 0
	case "dev":
		return 0, unix.MS_NODEV
	case "noexec":
		return unix.MS_NOEXEC, 0
	case "exec":
		return 0, unix.MS_NOEXEC
	case "sync":
		return unix.MS_SYNCHRONOUS, 0
	case "async":
		return 0, unix.MS_SYNCHRONOUS
	case "dirsync":
		return unix.MS_DIRSYNC, 0
	case "noatime":
		return unix.MS_NOATIME, 0
	case "atime":
		return 0, unix.MS_NOATIME
	case "nodiratime":
		return unix.MS_NODIRATIME, 0
	case "diratime":
		return 0, unix.MS_NODIRATIME
	case "relatime":
		return unix.MS_RELATIME, 0
	case "norelatime":
		return 0, unix.MS_RELATIME
	case "strictatime":
		return unix.MS_STRICTATIME, 0
	case "nostrictatime":
		return 0, unix.MS_STRICTATIME
	case "lazytime":
		return unix.MS_LAZYTIME, 0
	case "nolazytime":
		return 0, unix.MS_LAZYTIME
	case "nosymfollow":
		return msNoSymFollow, 0
	case "bind":
		return unix.MS_BIND, 0
	case "rbind":
		return unix.MS_BIND | unix.MS_REC, 0
	case "silent":
		return unix.MS_SILENT, 0
	case "loud":
		return 0, unix.MS_SILENT
	}
	return 0, 0
}

// msNoSymFollow is MS_NOSYMFOLLOW (include/uapi/linux/mount.h).
const msNoSymFollow = 256

// isType says whether mode is that of the given type (syscall.S_IFDIR, ...).
func isType(mode, typ uint32) bool { return mode&syscall.S_IFMT == typ }
