package boot

import (
	"slices"
	"strings"
	"testing"
)

// message is a uevent with these parts.
func message(parts ...string) []byte { return []byte(strings.Join(parts, "\x00") + "\x00") }

func TestUevent(t *testing.T) {
	const alias = "virtio:d0000001Av00001AF4"
	good := message("add@/devices/pci0000:00/0000:00:02.0/virtio0", "ACTION=add", "DEVPATH=/devices/x", "SUBSYSTEM=virtio", "MODALIAS="+alias, "SEQNUM=700")
	if e, ok := parseUevent(good); !ok || e != (uevent{"add", alias}) {
		t.Errorf("%+v, %v", e, ok)
	}
	if e, ok := parseUevent(message("change@/module/x", "ACTION=change")); !ok || e != (uevent{"change", ""}) {
		t.Errorf("without an alias: %+v, %v", e, ok)
	}
	for _, bad := range [][]byte{nil, []byte("add@/x"), message(""), message("add"), message("@/x"), message("add@x"), good[:len(good)-1], message("libudev")} {
		if e, ok := parseUevent(bad); ok {
			t.Errorf("%q is %+v", bad, e)
		}
	}
}

func FuzzUevent(f *testing.F) {
	f.Add(message("add@/devices/x", "ACTION=add", "MODALIAS=a:b"))
	f.Add(message("bind@/x"))
	f.Add([]byte("add@/x\x00MODALIAS=cut"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, ok := parseUevent(data)
		if ok && (e.action == "" || !strings.Contains(string(data), e.action+"@/") || !strings.Contains(string(data), "\x00MODALIAS="+e.alias+"\x00") && e.alias != "") {
			t.Errorf("%q is %+v", data, e)
		}
	})
}

// TestLateDevice holds that a disk that appears while it is waited for gets its
// driver by what the kernel says of it, or, where that was lost, by a look.
func TestLateDevice(t *testing.T) {
	for _, lost := range []bool{false, true} {
		f := newFake(t, "init=/init root=/dev/vda")
		f.files["/lib/modules/6.1.0-fake/modules.alias"] = "alias virtio:d00000002v* virtio_blk\n"
		f.files["/lib/modules/6.1.0-fake/modules.dep"] = "kernel/virtio_blk.ko:\n"
		waits := 0
		f.onWait = func() ([]string, bool) {
			switch waits++; waits {
			case 1: // the first says that nobody has looked yet
				return nil, true
			case 4:
				f.files["/sys/bus/virtio/devices/virtio1/modalias"] = "virtio:d00000002v1\n"
				return []string{"virtio:d00000002v1"}, lost
			}
			return nil, false
		}
		f.onModule = func(string) {
			f.files["/dev/vda"] = ""
			f.disks = []string{"/dev/vda"}
		}
		f.boot()
		want := []string{"module /lib/modules/6.1.0-fake/kernel/virtio_blk.ko "}
		if got := f.made("module"); !slices.Equal(got, want) || waits != 4 {
			t.Errorf("lost %v: %q after %d waits", lost, got, waits)
		}
	}
}
