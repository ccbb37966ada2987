package boot

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"storeboot/init/superblock"
	"storeboot/internal/bootproto"
)

// rootWait is how long to wait for the disk of the root file system, and of the
// store's changes, where the command line does not say.
const rootWait = 10 * time.Second

// makeRoot puts the new root together, with the store in it, and finds out what
// is to be started there. All of it can still fail without harm.
func (b *boot) makeRoot() error {
	if err := b.mountRoot(b.params.Root); err != nil {
		return fmt.Errorf("root file system: %w", err)
	}
	// A mount below a shared one cannot be moved.
	if err := b.sys.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, dir := range b.storeMounts() {
		if err := b.move(dir); err != nil {
			return err
		}
	}
	if b.params.Root.Source == "" {
		if err := b.sys.Mkdir(newRoot+"/tmp", 0o1777); err != nil {
			return fmt.Errorf("make directory /tmp: %w", err)
		}
	}
	b.copyResolvConf()
	var err error
	b.system, err = b.findSystem(b.params.Init)
	return err
}

// resolvConf is where the name servers are that the network's configuration has
// brought.
const resolvConf = "/etc/resolv.conf"

// copyResolvConf gives the system the name servers, unless it has its own.
func (b *boot) copyResolvConf() {
	text, err := b.readOptional(resolvConf)
	if err == nil && text == nil {
		return
	}
	if err == nil {
		err = b.mkdirAll(newRoot + "/etc")
	}
	if err == nil {
		err = b.sys.CreateFile(newRoot+resolvConf, string(text))
	}
	if err != nil {
		b.log.warning("name servers: " + err.Error())
	}
}

// mountRoot mounts what root= names: a file system in memory, a share, a disk.
func (b *boot) mountRoot(r bootproto.Root) error {
	if r.Source == "" {
		options := "mode=755"
		if r.Flags != "" && (r.Type == "" || r.Type == "tmpfs") {
			options += "," + r.Flags
		}
		return b.mount(bootproto.Mount{Source: "tmpfs", Target: newRoot, Type: "tmpfs", Options: options})
	}
	m := bootproto.Mount{Source: r.Source, Target: newRoot, Type: r.Type, Options: r.Flags}
	if r.ReadOnly {
		m.Options += ",ro"
	}
	if tag, ok := strings.CutPrefix(r.Source, "virtiofs:"); ok {
		m.Source, m.Type = tag, "virtiofs"
	}
	limit := r.Wait
	if limit == 0 {
		limit = rootWait
	}
	if m.Type == "virtiofs" {
		return b.mountShare(m, limit)
	}
	return b.mountDisk(m, limit)
}

// mountShare waits for the virtio-fs device with the tag that is m's source.
func (b *boot) mountShare(m bootproto.Mount, limit time.Duration) error {
	err := b.waitFor(limit, func() (bool, error) {
		err := b.mount(m)
		return errors.Is(err, syscall.EINVAL) && (b.storeDevices() < 2 || b.sys.Elapsed() < 2*time.Second), err
	})
	if errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("no virtio-fs device with tag %s (%s)", m.Source, b.describeDevices())
	}
	return err
}

// mountDisk waits for the disk that is m's source, and mounts it as what is on
// it unless m has a type.
func (b *boot) mountDisk(m bootproto.Mount, limit time.Duration) error {
	var d disk
	err := b.waitFor(limit, func() (again bool, err error) {
		d, err = b.findDisk(m.Source)
		return errors.Is(err, errNoDisk), err
	})
	if err != nil {
		if errors.Is(err, errNoDisk) {
			err = fmt.Errorf("%s: %w after %v (the machine has %s)", m.Source, err, limit, b.describeDisks())
		}
		return err
	}
	if m.Type == "" {
		if m.Type = d.fs.Type; m.Type == "" {
			return fmt.Errorf("%s: %w on it: name it with rootfstype=", m.Source, superblock.ErrUnknown)
		}
	}
	b.debug(fmt.Sprintf("disk %s is %s (%s)", m.Source, d.device, d.fs.Type))
	m.Source = d.device
	b.needType(m.Type)
	if err := b.mount(m); err != nil {
		return fmt.Errorf("%s: %w%s", d.device, err, missingType(m.Type, err))
	}
	return nil
}

// disk is a block device and what is on it.
type disk struct {
	device string
	fs     superblock.FS
}

var errNoDisk = errors.New("no such disk")

// findDisk finds the disk that source names. errNoDisk says that it may still
// come.
func (b *boot) findDisk(source string) (disk, error) {
	for prefix, key := range map[string]string{"by-label": "LABEL", "by-uuid": "UUID", "by-partlabel": "PARTLABEL", "by-partuuid": "PARTUUID"} {
		if v, ok := strings.CutPrefix(source, "/dev/disk/"+prefix+"/"); ok {
			source = key + "=" + v
		}
	}
	key, value, named := strings.Cut(source, "=")
	if !named {
		st, err := b.sys.Stat(source)
		switch {
		case !path.IsAbs(source):
			return disk{}, fmt.Errorf("%q: want /dev/NAME, LABEL=, UUID=, PARTLABEL=, PARTUUID= or virtiofs:TAG", source)
		case isMissing(err):
			return disk{}, errNoDisk
		case err != nil:
			return disk{}, fmt.Errorf("%s: %w", source, err)
		case !isType(st.Mode, syscall.S_IFBLK):
			return disk{}, fmt.Errorf("%s: not a disk", source)
		}
		return disk{source, b.probe(source)}, nil
	}
	switch key {
	case "LABEL", "UUID", "PARTLABEL", "PARTUUID":
	default:
		return disk{}, fmt.Errorf("%s=: want LABEL=, UUID=, PARTLABEL= or PARTUUID=", key)
	}
	for _, dir := range b.sys.Glob("/sys/class/block/*") {
		device := "/dev/" + strings.ReplaceAll(path.Base(dir), "!", "/")
		switch key {
		case "LABEL", "UUID":
			fs := b.probe(device)
			if key == "LABEL" && fs.Label == value || key == "UUID" && fs.UUID != "" && strings.EqualFold(fs.UUID, value) {
				return disk{device, fs}, nil
			}
		default:
			if got := b.partition(dir, key); got != "" && strings.EqualFold(got, value) {
				return disk{device, b.probe(device)}, nil
			}
		}
	}
	return disk{}, errNoDisk
}

// partition is the name or UUID of a partition, as far as the kernel tells: the
// UUID from Linux 6.9.
func (b *boot) partition(dir, key string) string {
	variable := map[string]string{"PARTLABEL": "PARTNAME=", "PARTUUID": "PARTUUID="}[key]
	text, err := b.sys.ReadFile(dir + "/uevent")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), variable); ok {
			return v
		}
	}
	return ""
}

// probe is what is on a device; what cannot be read has nothing.
func (b *boot) probe(device string) superblock.FS {
	f, err := b.sys.Open(device)
	if err != nil {
		return superblock.FS{}
	}
	defer f.Close()
	fs, _ := superblock.Probe(f)
	return fs
}

// maxDescribed is how many disks a message names.
const maxDescribed = 12

// describeDisks names the disks that there are.
func (b *boot) describeDisks() string {
	var list []string
	for _, dir := range b.sys.Glob("/sys/class/block/*") {
		name := path.Base(dir)
		fs := b.probe("/dev/" + strings.ReplaceAll(name, "!", "/"))
		if fs.Type != "" {
			name += " (" + strings.TrimSpace(fs.Type+" "+fs.UUID+" "+fs.Label) + ")"
		} else if strings.HasPrefix(name, "loop") || strings.HasPrefix(name, "ram") {
			continue
		}
		if list = append(list, name); len(list) == maxDescribed {
			break
		}
	}
	if len(list) == 0 {
		return "no disk at all: the VMM offers none, or the initrd lacks its module, such as virtio_blk"
	}
	return strings.Join(list, ", ")
}
