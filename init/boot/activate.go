package boot

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"storeboot/internal/bootproto"
)

// activate moves the mounts into the new root and makes the system there ready
// to be started. If that fails the mounts are where they were.
func (b *boot) activate() (err error) {
	b.log.info("init is " + b.system.exec + " (" + b.system.kind + ")")
	if err := b.mount(keysMount()); err != nil {
		b.log.warning(err.Error())
	}
	if d := b.system.data; d != nil && d.EtcImage != "" {
		if err := b.mountEtcImage(d); err != nil {
			return fmt.Errorf("mount the overlay of /etc: %w", err)
		}
	}
	var moved []string
	defer func() {
		if err == nil {
			return
		}
		for _, dir := range slices.Backward(moved) {
			if back := b.sys.Mount(newRoot+dir, dir, "", unix.MS_MOVE, ""); back != nil {
				b.log.warning("move the mount " + dir + " back: " + back.Error())
			}
		}
	}()
	for _, dir := range b.mountsToMove() {
		if err := b.move(dir); err != nil {
			return err
		}
		moved = append(moved, dir)
	}
	switch {
	case b.system.data != nil:
		err = b.activateData(b.system.data)
	case b.system.activation != "":
		err = b.runActivation(b.system.activation)
	}
	if err != nil {
		return err
	}
	b.setMachineID()
	return nil
}

// runActivation runs the script of stage 2 in the new root, and makes its
// output part of the kernel's log.
func (b *boot) runActivation(script string) error {
	if b.params.Root.ReadOnly { // a plain stage 2 does this itself
		if err := b.sys.Mount("", newRoot, "", unix.MS_REMOUNT|unix.MS_BIND, ""); err != nil {
			b.log.warning("make the root file system writable: " + err.Error())
		}
	}
	err := b.runLogged(&Program{
		Argv: []string{script},
		Env:  []string{stage1Variable + "=true"},
		Dir:  "/",
		Root: newRoot,
	}, "activation: ")
	if err != nil {
		return fmt.Errorf("activation %s: %w", script, err)
	}
	return nil
}

// activateData does what nixos-init does in the initrd, in its order, without
// starting anything.
func (b *boot) activateData(d *activationData) error {
	if err := b.applySpecial(d.Special); err != nil {
		return err
	}
	if err := b.applyStoreOptions(d.StoreOptions); err != nil {
		return err
	}
	for _, name := range []string{"booted-system", "current-system"} {
		if err := b.sys.Symlink(b.system.top, newRoot+"/run/"+name); err != nil {
			return fmt.Errorf("link /run/%s: %w", name, err)
		}
	}
	for _, w := range [][2]string{
		{"/proc/sys/kernel/modprobe", d.Modprobe},
		{"/sys/module/firmware_class/parameters/path", d.Firmware},
	} {
		if w[1] == "" {
			continue
		}
		if err := b.sys.WriteFile(newRoot+w[0], w[1]); err != nil {
			b.log.warning("write " + w[0] + ": " + err.Error())
		}
	}
	if err := b.linkProgram(d.Env, "/usr/bin/env"); err != nil {
		return err
	}
	if err := b.linkProgram(d.Sh, "/bin/sh"); err != nil {
		return err
	}
	// systemd refuses an empty /usr.
	if err := b.mkdirAll(newRoot + "/usr/bin"); err != nil {
		return err
	}
	if d.EtcImage == "" {
		return nil
	}
	if err := b.mountEtc(d); err != nil {
		return fmt.Errorf("mount the overlay of /etc: %w", err)
	}
	return nil
}

// linkProgram makes the link at place, removes it for an empty target, and
// leaves it alone for none.
func (b *boot) linkProgram(target *string, place string) error {
	var err error
	switch {
	case target == nil:
		return nil
	case *target == "":
		err = b.sys.Remove(newRoot + place)
	default:
		if err = b.mkdirAll(newRoot + path.Dir(place)); err == nil {
			err = b.sys.Symlink(*target, newRoot+place)
		}
	}
	if err != nil {
		return fmt.Errorf("link %s: %w", place, err)
	}
	return nil
}

// applySpecial makes the special file systems what the system wants them to be:
// those that are there already with these options stay.
func (b *boot) applySpecial(list []specialDir) error {
	ours := append(specialMounts(), keysMount())
	for _, s := range list {
		m := s.mount()
		i := slices.IndexFunc(ours, func(o bootproto.Mount) bool { return o.Target == m.Target })
		if i >= 0 && m.Target != "/tmp" && sameOptions(ours[i].Options, m.Options) {
			continue
		}
		flags, data := mountOptions(m.Options)
		m.Target = newRoot + m.Target
		if flags&unix.MS_BIND != 0 {
			m.Source = newRoot + m.Source // a path in the system
		}
		if i >= 0 && s.Target != "/tmp" {
			if err := b.sys.Mount("", m.Target, "", unix.MS_REMOUNT|flags, data); err != nil {
				b.log.warning("mount " + s.Target + " with " + m.Options + ": " + err.Error())
			}
			continue
		}
		if err := b.mount(m); err != nil {
			return err
		}
	}
	return nil
}

// sameOptions compares lists of options, whatever their order.
func sameOptions(a, b string) bool {
	x, y := strings.Split(a, ","), strings.Split(b, ",")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// applyStoreOptions mounts the store anew over itself if an option is wanted
// that it does not have.
func (b *boot) applyStoreOptions(options []string) error {
	have := uintptr(storeFlags)
	if b.params.StoreOverlay != "" {
		have &^= unix.MS_RDONLY
	}
	want, _ := mountOptions(strings.Join(options, ","))
	if b.params.StoreOverlay != "" {
		want &^= unix.MS_RDONLY // a writable store was asked for
	}
	if want&^have == 0 {
		return nil
	}
	store := newRoot + storeDir
	if err := b.sys.Mount(store, store, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount the store with %s: %w", strings.Join(options, ","), err)
	}
	if err := b.sys.Mount("", store, "", unix.MS_BIND|unix.MS_REMOUNT|want|have, ""); err != nil {
		return fmt.Errorf("mount the store with %s: %w", strings.Join(options, ","), err)
	}
	return nil
}

// etcMetadata is where the names and modes of /etc are. It travels with /run.
const etcMetadata = "/run/nixos-etc-metadata"

// mountEtcImage makes etcMetadata. It needs /dev, so it comes before the mounts
// are moved.
func (b *boot) mountEtcImage(d *activationData) error {
	if err := b.mkdirAll(etcMetadata); err != nil {
		return err
	}
	b.needType("erofs")
	b.needType("overlay")
	disk, err := b.sys.AttachLoop(newRoot + d.EtcImage)
	if err != nil {
		return fmt.Errorf("make a disk of %s: %w: the initrd lacks the module loop, or the kernel has none", d.EtcImage, err)
	}
	err = b.sys.Mount(disk, etcMetadata, "erofs", unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID, "")
	if err != nil {
		return fmt.Errorf("%s: %w%s", d.EtcImage, err, missingType("erofs", err))
	}
	return nil
}

// mountEtc mounts /etc as nixos/modules/system/etc has it: names and modes from
// an erofs image, contents from a directory of the store, changes beside it.
func (b *boot) mountEtc(d *activationData) error {
	const upper, work = "/.rw-etc/upper", "/.rw-etc/work"
	for _, dir := range []string{"/etc", upper, work} {
		if err := b.mkdirAll(newRoot + dir); err != nil {
			return err
		}
	}
	var err error
	// Before Linux 6.5 there is no "::", which hides the contents' own names.
	for _, separator := range []string{"::", ":"} {
		data := "redirect_dir=on,metacopy=on,lowerdir=" + newRoot + etcMetadata + separator + newRoot + d.EtcBase +
			",upperdir=" + newRoot + upper + ",workdir=" + newRoot + work
		err = b.sys.Mount("overlay", newRoot+"/etc", "overlay", unix.MS_NODEV|unix.MS_NOSUID|unix.MS_RELATIME, data)
		if !errors.Is(err, syscall.EINVAL) && !isMissing(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("%w%s", err, missingType("overlay", err))
	}
	return nil
}

// missingType is a hint for the error of mount(2) with a type that the kernel
// does not have.
func missingType(fstype string, err error) string {
	if errors.Is(err, syscall.ENODEV) {
		return ": the initrd lacks the module " + fstype + ", or the kernel has no such file system"
	}
	return ""
}

// setMachineID writes the machine's own identity as that of the system if the
// root file system is new with every boot and nobody names one: systemd alone
// would invent one each time. Where the machine has none either, a system of data
// alone gets an empty file, as the script of stage 2 makes it: without, systemd
// would take each boot for the first, and ask a person for what is missing.
func (b *boot) setMachineID() {
	if b.params.Root.Source != "" {
		return
	}
	text, _ := b.sys.ReadFile(newRoot + "/sys/class/dmi/id/product_uuid")
	id := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(string(text))), "-", "") + "\n"
	if len(id) != 32+1 || strings.Trim(id, "0123456789abcdef") != "\n" || strings.Trim(id, "0\n") == "" || strings.Trim(id, "f\n") == "" {
		if b.system.data == nil {
			return
		}
		id = ""
	}
	err := b.mkdirAll(newRoot + "/etc")
	if err == nil {
		err = b.sys.CreateFile(newRoot+"/etc/machine-id", id)
	}
	if err != nil {
		b.log.warning("write /etc/machine-id: " + err.Error())
	}
}
