package boot

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const moduleDir = "/lib/modules/6.1.0-fake/"

// withTables gives the image modules for devices: a bus, two drivers on it that
// share a library, and a file system.
func withTables(f *fakeSystem) {
	f.files[moduleDir+"modules.dep"] = "kernel/bus.ko:\nkernel/lib-a.ko:\nkernel/lib-b.ko: kernel/lib-a.ko\n" +
		"kernel/disk.ko: kernel/lib-b.ko kernel/lib-a.ko\nkernel/net.ko: kernel/lib-a.ko\nkernel/xfs.ko:\nkernel/virtiofs.ko:\n"
	f.files[moduleDir+"modules.alias"] = "# from depmod\nalias pci:v00001AF4d* bus\nalias virtio:d00000002v* disk\n" +
		"alias virtio:d0000000[1]v* net\nalias fs-xfs xfs\nalias symbol:x\nalias virtio:d0000001Av* virtiofs\nalias pci:gone gone\n"
	f.files["/proc/filesystems"] = "nodev\ttmpfs\n\text4\n"
	f.files["/sys/bus/pci/devices/0000:00:01.0/modalias"] = "pci:v00001AF4d00001042sv0\n"
	f.onModule = func(p string) {
		if strings.HasSuffix(p, "bus.ko") { // whose devices appear
			f.files["/sys/bus/virtio/devices/virtio0/modalias"] = "virtio:d00000002v00001AF4\n"
			f.files["/sys/bus/virtio/devices/virtio1/modalias"] = "virtio:d00000001v00001AF4\n"
		}
	}
}

// TestModulesForDevices holds that the modules of the devices are loaded, each
// once and after what it needs, until no device appears any more.
func TestModulesForDevices(t *testing.T) {
	f := newFake(t, "tvix.find lib-b.x=1")
	withTables(f)
	f.boot()
	want := []string{
		"module " + moduleDir + "kernel/bus.ko ",
		"module " + moduleDir + "kernel/lib-a.ko ",
		"module " + moduleDir + "kernel/lib-b.ko x=1",
		"module " + moduleDir + "kernel/disk.ko ",
		"module " + moduleDir + "kernel/net.ko ",
	}
	if got := f.made("module"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestModulesForDevicesFail holds that a module of a device that cannot be
// loaded does not end the boot, and is not tried again.
func TestModulesForDevicesFail(t *testing.T) {
	f := newFake(t, "tvix.find modprobe.blacklist=net")
	withTables(f)
	f.files["/sys/bus/pci/devices/0000:00:02.0/modalias"] = "pci:gone\n"
	f.fail["module "+moduleDir+"kernel/disk.ko"] = syscall.ENODEV
	if r := f.boot(); r.Message != "" {
		t.Errorf("report %+v", r)
	}
	for _, want := range []string{
		"module for virtio:d00000002v00001AF4: disk: no such device",
		"module for virtio:d00000001v00001AF4: net: the command line forbids it",
		"module for pci:gone: gone: modules.dep does not list it",
	} {
		if n := strings.Count(f.log.String(), want); n != 1 {
			t.Errorf("%d times in the log: %q\n%s", n, want, f.log.String())
		}
	}
	if got := f.made("module " + moduleDir + "kernel/disk.ko"); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

// TestModulesForRoot holds that a disk may appear with its module while it is
// waited for, and that the module of its file system is loaded.
func TestModulesForRoot(t *testing.T) {
	f := withSystem(t, "init="+system+"/init root=LABEL=system")
	withTables(f)
	late := f.files["/sys/bus/pci/devices/0000:00:01.0/modalias"]
	delete(f.files, "/sys/bus/pci/devices/0000:00:01.0/modalias")
	var events []string
	f.onWait = func() ([]string, bool) {
		if f.now > time.Second && f.files["/sys/bus/pci/devices/0000:00:01.0/modalias"] == "" {
			f.files["/sys/bus/pci/devices/0000:00:01.0/modalias"] = late
			events = append(events, strings.TrimSpace(late))
		}
		got := events
		events = nil
		return got, false
	}
	appear := f.onModule
	f.onModule = func(p string) {
		appear(p)
		if strings.HasSuffix(p, "bus.ko") {
			events = append(events, "virtio:d00000002v00001AF4", "virtio:d00000001v00001AF4")
		}
		if strings.HasSuffix(p, "/disk.ko") {
			addDisk(f, "vda", xfsDisk("system"), "")
		}
	}
	Run(f)
	xfs, mount := slices.Index(f.calls, "module "+moduleDir+"kernel/xfs.ko "), slices.Index(f.calls, "mount /dev/vda /sysroot xfs 0x0 ")
	if xfs < 0 || mount < xfs {
		t.Errorf("calls %q; reports %+v", f.calls, f.reports)
	}
}
