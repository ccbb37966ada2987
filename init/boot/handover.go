package boot

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"storeboot/internal/bootproto"
)

// newRoot is where the system's root is put together.
const newRoot = "/sysroot"

// handOver reports that the guest is the system's from here on, and becomes its
// init.
func (b *boot) handOver() error {
	argv := []string{b.system.exec}
	if b.system.systemd {
		if fd, err := b.sys.MemoryFile("initrd", b.timestamp()); err != nil {
			b.log.warning("hand over the time of our start: " + err.Error())
		} else {
			argv = append(argv, "--switched-root", "--system", "--deserialize", strconv.Itoa(fd))
		}
	}
	argv = append(argv, b.params.InitArgs...)
	b.log.info("starting " + b.system.exec)
	b.sendReport(bootproto.Report{Outcome: bootproto.OutcomeHandover})
	if err := b.sys.SwitchRoot(newRoot); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	b.startAgent()
	err := b.sys.Exec(b.system.exec, argv, b.initEnvironment())
	return fmt.Errorf("execute %s: %w", b.system.exec, err)
}

// timestamp is what systemd reads, as the state of the systemd of an initrd, to
// know when that was started (src/core/manager-serialize.c): the times of day
// and since the kernel's start, in microseconds. An empty line ends it.
func (b *boot) timestamp() string {
	return "initrd-timestamp=" + strconv.FormatInt(b.startedAt.UnixMicro(), 10) + " " + strconv.FormatInt(b.startedAfter.Microseconds(), 10) + "\n\n"
}

// initEnvironment is what the kernel would give an init that it starts itself:
// HOME, TERM and the words of the command line that are variables; and a PATH.
func (b *boot) initEnvironment() []string {
	env := b.sys.Environ()
	if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) {
		env = append(env, "PATH=/bin:/sbin:/usr/bin:/usr/sbin")
	}
	return env
}

// mountsToMove lists the mounts that the system gets, except the store, which
// is in the new root already: the special ones but /tmp, and those of the
// image. A mount takes along what is mounted below it.
func (b *boot) mountsToMove() []string {
	dirs := []string{"/proc", "/sys", "/dev", "/run"}
	mounts := b.spec.Mounts
	if b.run != nil {
		mounts = append(slices.Clip(mounts), b.run.Mounts...)
	}
	for _, m := range mounts {
		travels := func(dir string) bool { return m.Target == dir || strings.HasPrefix(m.Target, dir+"/") }
		if !slices.ContainsFunc(dirs, travels) && !travels(storeDir) {
			dirs = append(dirs, m.Target)
		}
	}
	return dirs
}

// move moves the mount at dir to the same place in the new root.
func (b *boot) move(dir string) error {
	if err := b.mkdirAll(newRoot + dir); err != nil {
		return err
	}
	if err := b.sys.Mount(dir, newRoot+dir, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the mount %s: %w", dir, err)
	}
	return nil
}
