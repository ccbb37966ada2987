package boot

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"storeboot/internal/bootproto"
)

// storeDir is where a Nix store is.
const storeDir = "/nix/store"

// storeFlags are boot.nixStoreMountOpts of NixOS, so that its stage 2 has
// nothing to change.
const storeFlags = unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOSUID

const (
	// deviceWait is how long to wait for a device that appears after its driver
	// was loaded: buses are probed asynchronously.
	deviceWait = 5 * time.Second
	// tagWait is how long to wait for a further virtio-fs device when the
	// machine has one already, with another tag.
	tagWait = time.Second
	// devicePause is the longest pause between two attempts: what is waited for
	// may come without a word of the kernel.
	devicePause = 50 * time.Millisecond
)

// readAheadKB makes the kernel read the store in requests of 1 MiB, an eighth
// as many as with its default of 128. The daemon cannot set it.
const readAheadKB = "1024"

// mountStore mounts the store and opens it.
func (b *boot) mountStore() error {
	dir := storeDir
	if b.params.StoreOverlay != "" {
		dir = lowerDir
	}
	if err := b.mkdirAll(dir); err != nil {
		return err
	}
	tag, err := b.mountTag(dir)
	if err != nil {
		return err
	}
	b.store, err = b.sys.OpenStore(dir)
	if err != nil {
		return fmt.Errorf("open the store (tag %s): %w: its daemon does not answer", tag, err)
	}
	b.log.info("store mounted from tag " + tag)
	if err := b.setReadAhead(dir); err != nil {
		b.log.warning("set read-ahead of the store: " + err.Error())
	}
	if b.params.StoreOverlay == "" {
		return nil
	}
	if err := b.mountOverlay(b.params.StoreOverlay); err != nil {
		return fmt.Errorf("make the store writable: %w", err)
	}
	return nil
}

// Where the parts of a writable store are, under the names that NixOS' own VMs
// use (nixos/modules/virtualisation/qemu-vm.nix).
const (
	lowerDir = "/nix/.ro-store"
	upperDir = "/nix/.rw-store"
)

// mountOverlay lays a file system for changes over the store: in memory, or on
// a disk, which keeps them.
func (b *boot) mountOverlay(where string) error {
	m := bootproto.Mount{Source: "tmpfs", Target: upperDir, Type: "tmpfs", Options: "mode=755"}
	var err error
	if where == "tmpfs" {
		err = b.mount(m)
	} else {
		err = b.mountDisk(bootproto.Mount{Source: where, Target: upperDir}, rootWait)
	}
	if err != nil {
		return err
	}
	for _, dir := range []string{storeDir, upperDir + "/store", upperDir + "/work"} {
		if err := b.mkdirAll(dir); err != nil {
			return err
		}
	}
	b.needType("overlay")
	data := "lowerdir=" + lowerDir + ",upperdir=" + upperDir + "/store,workdir=" + upperDir + "/work"
	if err := b.sys.Mount("overlay", storeDir, "overlay", unix.MS_NODEV|unix.MS_NOSUID, data); err != nil {
		return fmt.Errorf("mount %s (overlay): %w%s", storeDir, err, missingType("overlay", err))
	}
	return nil
}

// storeMounts are the mounts that make the store, in the order to move them.
func (b *boot) storeMounts() []string {
	if b.params.StoreOverlay == "" {
		return []string{storeDir}
	}
	return []string{lowerDir, upperDir, storeDir}
}

// mountTag mounts the first tag that there is at dir and returns it. A tag that no
// device has is EINVAL.
func (b *boot) mountTag(dir string) (string, error) {
	tags := bootproto.Tags()
	if b.params.Tag != "" {
		tags = []string{b.params.Tag}
	}
	for began := b.sys.Elapsed(); ; b.waitDevice() {
		for _, tag := range tags {
			err := b.sys.Mount(tag, dir, "virtiofs", storeFlags, "")
			switch {
			case err == nil:
				return tag, nil
			case errors.Is(err, syscall.ENODEV):
				return "", fmt.Errorf("mount the store: %w: this kernel has no virtiofs: the initrd lacks the module virtiofs, or the kernel CONFIG_VIRTIO_FS", err)
			case !errors.Is(err, syscall.EINVAL):
				return "", fmt.Errorf("mount the store (tag %s): %w", tag, err)
			}
		}
		if err := b.stopped(); err != nil {
			return "", err
		}
		waited := b.sys.Elapsed() - began
		if waited >= deviceWait || waited >= tagWait && b.storeDevices() > 0 {
			return "", fmt.Errorf("mount the store: no virtio-fs device with tag %s (%s)", strings.Join(tags, " or "), b.describeDevices())
		}
	}
}

// virtioFS is the device type of virtio-fs (virtio 1.2, 5.11.1) as sysfs
// prints it.
const virtioFS = "0x001a"

// storeDevices counts the virtio-fs devices that have their driver.
func (b *boot) storeDevices() int {
	n := 0
	for _, file := range b.sys.Glob("/sys/bus/virtio/drivers/virtiofs/virtio*/device") {
		if id, err := b.sys.ReadFile(file); err == nil && strings.TrimSpace(string(id)) == virtioFS {
			n++
		}
	}
	return n
}

// describeDevices says which tags the machine offers, as far as the kernel
// tells: from Linux 6.9 it names them.
func (b *boot) describeDevices() string {
	var tags []string
	for _, file := range b.sys.Glob("/sys/fs/virtiofs/*/tag") {
		if tag, err := b.sys.ReadFile(file); err == nil {
			tags = append(tags, strings.TrimSpace(string(tag)))
		}
	}
	switch n := b.storeDevices(); {
	case len(tags) > 0:
		return "the machine has " + strings.Join(tags, ", ")
	case n == 1:
		return "the machine has one, with another tag"
	case n > 1:
		return fmt.Sprintf("the machine has %d, with other tags", n)
	case len(b.sys.Glob("/sys/bus/virtio/devices/*")) == 0:
		return "the machine has no virtio device at all: the initrd lacks the module virtio_pci, or the VMM offers none"
	}
	return "the machine has none: the VMM does not offer the store"
}

func (b *boot) setReadAhead(dir string) error {
	st, err := b.sys.Stat(dir)
	if err != nil {
		return err
	}
	return b.sys.WriteFile("/sys/class/bdi/"+strconv.Itoa(int(unix.Major(st.Dev)))+":"+strconv.Itoa(int(unix.Minor(st.Dev)))+"/read_ahead_kb", readAheadKB)
}
