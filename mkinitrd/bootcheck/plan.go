package bootcheck

import (
	"slices"
	"strings"

	"storeboot/internal/bootproto"
	"storeboot/internal/kconfig"
)

// maxSpec is the largest boot specification.
const maxSpec = 16 << 20

// needs are the options without which init does not do its work, and what for.
var needs = []struct{ option, why string }{
	{"BINFMT_ELF", "to run init"},
	{"DEVTMPFS", "to mount /dev"},
	{"PROC_FS", "to mount /proc"},
	{"SYSFS", "to mount /sys"},
	{"TMPFS", "to mount /run"},
	{"TTY", "for a console"},
	{"FUTEX", "to run Go programs"},
	{"EPOLL", "to run Go programs"},
}

// drivers are what mounts the store: options, and the modules that they are
// where they are not built in.
var drivers = []struct{ option, module, why string }{
	{"VIRTIO_PCI", "virtio_pci", "finds the machine's devices"},
	{"FUSE_FS", "fuse", "is what virtio-fs speaks"},
	{"VIRTIO_FS", "virtiofs", "mounts the store"},
}

// filesystems are the types that a plan may mount, with option and module.
var filesystems = map[string]struct{ option, module string }{
	"overlay": {"OVERLAY_FS", "overlay"}, "9p": {"9P_FS", "9p"}, "ext4": {"EXT4_FS", "ext4"}, "xfs": {"XFS_FS", "xfs"},
	"btrfs": {"BTRFS_FS", "btrfs"}, "erofs": {"EROFS_FS", "erofs"}, "squashfs": {"SQUASHFS", "squashfs"},
	"vfat": {"VFAT_FS", "vfat"}, "virtiofs": {"VIRTIO_FS", "virtiofs"}, "fuse": {"FUSE_FS", "fuse"},
	"tmpfs": {"TMPFS", ""}, "iso9660": {"ISO9660_FS", "isofs"},
}

// plan checks what init will do, if the image has our init's boot
// specification.
func (c *checker) plan(mods map[string]module) {
	data, err := c.read(bootproto.BootSpecPath, maxSpec)
	if err != nil {
		c.say(Error, bootproto.BootSpecPath, "%v", err)
		return
	}
	if data == nil {
		return // another init
	}
	spec, err := bootproto.ParseBootSpec(data)
	if err != nil {
		c.say(Error, bootproto.BootSpecPath, "%v", err)
		return
	}
	if spec.Kernel != "" && c.k.Release != "" && spec.Kernel != c.k.Release {
		c.say(Error, bootproto.BootSpecPath, "the image is made for kernel %s, not for %s", spec.Kernel, c.k.Release)
	}
	loaded := map[string]bool{}
	for _, m := range spec.Modules {
		name := moduleName(m.Path)
		if c.tree.Lookup(m.Path) == nil {
			c.say(Error, m.Path, "is to be loaded, and is not in the image")
		}
		if !strings.HasSuffix(m.Path, ".ko") {
			c.say(Error, m.Path, "is to be loaded, and is compressed: init loads modules as they are")
		}
		for _, d := range mods[name].depends {
			if !loaded[d] && !c.k.Builtin[d] {
				c.say(Error, m.Path, "is loaded before %s, which it depends on", d)
			}
		}
		loaded[name], loaded[canonical(m.Name)] = true, true
	}
	for _, d := range drivers {
		c.driver(d.option, d.module, d.why, loaded)
	}
	if c.k.Config != nil {
		for _, n := range needs {
			if !c.k.Config.On(n.option) {
				c.say(Error, "", "the kernel lacks CONFIG_%s, which init needs %s", n.option, n.why)
			}
		}
	}
	for _, m := range spec.Mounts {
		if f, ok := filesystems[m.Type]; ok {
			c.driver(f.option, f.module, "is mounted on "+m.Target, loaded)
		}
	}
	if len(spec.Shell) > 0 {
		c.program(spec.Shell[0], "the shell ", 0)
	}
}

// driver checks that something is built in or loaded.
func (c *checker) driver(option, module, why string, loaded map[string]bool) {
	if loaded[module] || c.k.Builtin[module] {
		return
	}
	switch {
	case c.k.Config == nil:
		if c.k.Builtin != nil && module != "" {
			c.say(Error, "", "the module %s, which %s, is neither built in nor loaded by init", module, why)
		}
	case c.k.Config.On(option):
	case c.k.Config.Get(option) == kconfig.Module:
		c.say(Error, "", "the module %s, which %s, is not loaded by init, and is not built in", module, why)
	default:
		c.say(Error, "", "the kernel lacks CONFIG_%s, which %s", option, why)
	}
}

// Worst is the worst level in a list, "" for an empty one.
func Worst(list []Finding) Level {
	for _, l := range []Level{Error, Warning, Note} {
		if slices.ContainsFunc(list, func(f Finding) bool { return f.Level == l }) {
			return l
		}
	}
	return ""
}
