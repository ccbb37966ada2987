package boot

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"storeboot/internal/bootproto"
)

// xfsDisk is a disk with the file system that is shortest to write down.
func xfsDisk(label string) string {
	b := make([]byte, 256)
	copy(b, "XFSB")
	copy(b[32:], "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff")
	copy(b[108:], label)
	return string(b)
}

// addDisk gives the machine a disk.
func addDisk(f *fakeSystem, name, content, uevent string) {
	f.files["/sys/class/block/"+name+"/"] = ""
	f.files["/sys/class/block/"+name+"/uevent"] = uevent
	f.files["/dev/"+name] = content
	f.disks = append(f.disks, "/dev/"+name)
}

// TestRoot holds what is mounted as the new root, for the words of the command
// line.
func TestRoot(t *testing.T) {
	const uuid = "00112233-4455-6677-8899-aabbccddeeff"
	tests := []struct {
		words, want string // the mount, or the message of the failure
		waited      time.Duration
	}{
		{"", "mount tmpfs /sysroot tmpfs 0x0 mode=755", 0},
		{"root=fstab ro", "mount tmpfs /sysroot tmpfs 0x0 mode=755", 0},
		{"root=gpt-auto rw", "mount tmpfs /sysroot tmpfs 0x0 mode=755", 0},
		{"rootflags=size=50%", "mount tmpfs /sysroot tmpfs 0x0 mode=755,size=50%", 0},
		{"root=/dev/vdb", "mount /dev/vdb /sysroot xfs 0x0 ", 0},
		{"root=/dev/vdb ro rootflags=noatime,x=y", "mount /dev/vdb /sysroot xfs 0x401 x=y", 0},
		{"root=LABEL=system", "mount /dev/vdb /sysroot xfs 0x0 ", 0},
		{"root=/dev/disk/by-label/system", "mount /dev/vdb /sysroot xfs 0x0 ", 0},
		{"root=UUID=" + strings.ToUpper(uuid), "mount /dev/vdb /sysroot xfs 0x0 ", 0},
		{"root=PARTLABEL=third", "root file system: PARTLABEL=third: no file system that is known on it: name it with rootfstype=", 0},
		{"root=PARTLABEL=third rootfstype=ext4", "mount /dev/vdc3 /sysroot ext4 0x0 ", 0},
		{"root=PARTUUID=ABCD-03 rootfstype=ext4", "mount /dev/vdc3 /sysroot ext4 0x0 ", 0},
		{"root=virtiofs:tvix", "mount tvix /sysroot virtiofs 0x0 ", 0},
		{"root=tvix rootfstype=virtiofs ro", "mount tvix /sysroot virtiofs 0x1 ", 0},
		{"root=virtiofs:other", "no virtio-fs device with tag other", rootWait},
		{"root=LABEL=none", "LABEL=none: no such disk after 10s (the machine has vdb (xfs " + uuid + " system), vdc3)", rootWait},
		{"root=/dev/vdx rootwait=3", "/dev/vdx: no such disk after 3s", 3 * time.Second},
		{"root=vdb", `"vdb": want /dev/NAME, LABEL=`, 0},
		{"root=NAME=vdb", "NAME=: want LABEL=", 0},
		{"root=/init", "/init: not a disk", 0},
	}
	for _, tt := range tests {
		t.Run(tt.words, func(t *testing.T) {
			f := withSystem(t, "init="+system+"/init "+tt.words)
			addDisk(f, "vdb", xfsDisk("system"), "DEVNAME=vdb\n")
			addDisk(f, "vdc3", "", "DEVNAME=vdc3\nPARTNAME=third\nPARTUUID=abcd-03\n")
			f.files["/sys/class/block/loop0/"] = ""
			Run(f)
			if strings.HasPrefix(tt.want, "mount") {
				if got := f.made("mount"); !slices.Contains(got, tt.want) || len(f.made("exec")) == 0 {
					t.Errorf("mounts %q; reports %+v", got, f.reports)
				}
			} else if r := f.reports[len(f.reports)-1]; r.Step != "root" || !strings.Contains(r.Message, tt.want) {
				t.Errorf("report %+v", r)
			}
			if f.now < tt.waited || f.now > tt.waited+2*devicePause {
				t.Errorf("waited %v, want %v", f.now, tt.waited)
			}
		})
	}
}

// TestRootLate holds that a disk may come late, and that a machine without any
// is called that.
func TestRootLate(t *testing.T) {
	f := withSystem(t, "init="+system+"/init root=LABEL=system")
	f.onSleep = func() {
		if f.now > 2*time.Second && len(f.disks) == 0 {
			addDisk(f, "vdb", xfsDisk("system"), "")
		}
	}
	Run(f)
	if len(f.made("exec")) == 0 {
		t.Errorf("reports %+v", f.reports)
	}
	f = withSystem(t, "init="+system+"/init root=LABEL=system")
	if r := f.boot(); !strings.Contains(r.Message, "the machine has no disk at all") {
		t.Errorf("report %+v", r)
	}
	f = withSystem(t, "init="+system+"/init root=LABEL=system")
	addDisk(f, "vdb", xfsDisk("system"), "")
	f.fail["mount /dev/vdb"] = syscall.ENODEV
	if r := f.boot(); !strings.Contains(r.Message, "the initrd lacks the module xfs") {
		t.Errorf("report %+v", r)
	}
}

// TestMachineID holds when the machine's identity becomes the system's.
func TestMachineID(t *testing.T) {
	for uuid, want := range map[string]int{
		"11111111-2222-3333-4444-55555555555A\n": 1,
		"00000000-0000-0000-0000-000000000000\n": 0,
		"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\n": 0,
		"Not Settable\n":                         0,
		"":                                       0,
	} {
		f := withSystem(t, "init="+system+"/init")
		f.files[newRoot+"/sys/class/dmi/id/product_uuid"] = uuid
		Run(f)
		if got := f.made("create /sysroot/etc/machine-id"); len(got) != want {
			t.Errorf("%q: %q", uuid, got)
		}
	}
	// Without one, a system whose stage 2 is data is not in its first boot either.
	f := withSystem(t, "init="+system+"/init")
	nixOS(f, "C")
	Run(f)
	if got := f.made("create"); !slices.Equal(got, []string{`create /sysroot/etc/machine-id ""`}) {
		t.Errorf("kind C: %q", got)
	}
	f = withSystem(t, "init="+system+"/init root=/dev/vdb")
	addDisk(f, "vdb", xfsDisk(""), "")
	f.files[newRoot+"/sys/class/dmi/id/product_uuid"] = "11111111-2222-3333-4444-55555555555A\n"
	Run(f)
	if got := f.made("create"); len(got) > 0 {
		t.Errorf("on a disk: %q", got)
	}
}

// TestStoreOverlay holds the mounts of a writable store, and how they travel.
func TestStoreOverlay(t *testing.T) {
	f := withSystem(t, "tvix.store.overlay=tmpfs init="+system+"/init")
	Run(f)
	want := []string{
		"mount tvix /nix/.ro-store virtiofs 0x7 ",
		"mount tmpfs /nix/.rw-store tmpfs 0x0 mode=755",
		"mount overlay /nix/store overlay 0x6 lowerdir=/nix/.ro-store,upperdir=/nix/.rw-store/store,workdir=/nix/.rw-store/work",
		"mount /nix/.ro-store /sysroot/nix/.ro-store  0x2000 ",
		"mount /nix/.rw-store /sysroot/nix/.rw-store  0x2000 ",
		"mount /nix/store /sysroot/nix/store  0x2000 ",
	}
	if got := f.made("mount tvix", "mount tmpfs /nix", "mount overlay", "mount /nix"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := f.made("store"); !slices.Equal(got, []string{"store /nix/.ro-store"}) {
		t.Errorf("the report goes to %q", got)
	}
	f = newFake(t, "tvix.store.overlay=LABEL=changes tvix.run=/bin/x")
	addDisk(f, "vdb", xfsDisk("changes"), "")
	if r := f.boot(); r.Outcome != bootproto.OutcomeExited || !slices.Contains(f.calls, "mount /dev/vdb /nix/.rw-store xfs 0x0 ") {
		t.Errorf("report %+v, calls %q", r, f.calls)
	}
	f = newFake(t, "tvix.store.overlay=tmpfs tvix.run=/bin/x")
	f.fail["mount overlay"] = syscall.ENODEV
	if r := f.boot(); r.Step != "store" || !strings.Contains(r.Message, "make the store writable: mount /nix/store (overlay): no such device: the initrd lacks the module overlay") {
		t.Errorf("report %+v", r)
	}
}
