package boot

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"storeboot/internal/bootproto"
)

// newRoot is where the system's root is put together.
const newRoot = "/sysroot"

// makeRoot puts the new root together, a tmpfs with the store in it, and
// checks that there is an init in it that will start. All of it can still fail
// without harm.
func (b *boot) makeRoot() error {
	err := b.mount(bootproto.Mount{Source: "tmpfs", Target: newRoot, Type: "tmpfs", Options: "mode=755"})
	if err != nil {
		return err
	}
	// A mount below a shared one cannot be moved.
	if err := b.sys.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := b.move(storeDir); err != nil {
		return err
	}
	if err := b.sys.Mkdir(newRoot+"/tmp", 0o1777); err != nil {
		return fmt.Errorf("make directory /tmp: %w", err)
	}
	b.newInit, err = b.findInit(b.params.Init)
	return err
}

// findInit returns the program to execute for init=name, with all symbolic
// links followed in the new root. In a NixOS system whose init is systemd
// itself (made with boot.initrd.systemd), that is prepare-root beside it, which
// activates the system and then starts systemd.
func (b *boot) findInit(name string) (string, error) {
	if p := storePath(name); p != "" {
		if _, err := b.sys.Resolve(newRoot, p); isMissing(err) {
			return "", fmt.Errorf("init %s: store path %s is not in the store: import it with virtiofsd import or virtiofsd copy", name, p)
		}
	}
	resolved, err := b.sys.Resolve(newRoot, name)
	if err != nil {
		return "", fmt.Errorf("init %s: %w", name, err)
	}
	if prepare := path.Join(path.Dir(resolved), "prepare-root"); path.Base(resolved) == "init" {
		if target, err := b.sys.Resolve(newRoot, prepare); err == nil && b.checkExecutable(newRoot, target) == nil {
			return prepare, nil
		}
	}
	if err := b.checkExecutable(newRoot, resolved); err != nil {
		return "", fmt.Errorf("init %w", err)
	}
	return name, nil
}

// handOver reports that the guest is the system's from here on, moves the
// mounts into the new root and becomes its init.
func (b *boot) handOver() error {
	if err := b.mount(keysMount()); err != nil {
		b.log.warning(err.Error())
	}
	b.log.info("starting " + b.newInit)
	b.sendReport(bootproto.Report{Outcome: bootproto.OutcomeHandover})
	for _, dir := range b.mountsToMove() {
		if err := b.move(dir); err != nil {
			return err
		}
	}
	if err := b.sys.SwitchRoot(newRoot); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	argv := append([]string{b.newInit}, b.params.InitArgs...)
	err := b.sys.Exec(b.newInit, argv)
	return fmt.Errorf("execute %s: %w", b.newInit, err)
}

// mountsToMove lists the mounts that the system gets, except the store, which
// is in the new root already: the special ones but /tmp, and those of the
// image. A mount takes along what is mounted below it.
func (b *boot) mountsToMove() []string {
	dirs := []string{"/proc", "/sys", "/dev", "/run"}
	for _, m := range b.spec.Mounts {
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
