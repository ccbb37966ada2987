package boot

import (
	"bytes"
	"strings"
)

// maxUevent bounds a message of the kernel: UEVENT_BUFFER_SIZE of Linux for its
// variables, and the header before them (include/linux/kobject.h).
const maxUevent = 2048 + 1024

// uevent is what a message of the kernel says of a device: "ACTION@DEVPATH",
// then KEY=VALUE words, each ended by a NUL byte (lib/kobject_uevent.c).
type uevent struct {
	action string
	alias  string // that asks for a module; "" for none
}

// parseUevent says whether data is such a message.
func parseUevent(data []byte) (uevent, bool) {
	head, rest, ok := bytes.Cut(data, []byte{0})
	action, path, at := strings.Cut(string(head), "@")
	if !ok || !at || action == "" || !strings.HasPrefix(path, "/") {
		return uevent{}, false
	}
	e := uevent{action: action}
	for len(rest) > 0 {
		var word []byte
		if word, rest, ok = bytes.Cut(rest, []byte{0}); !ok {
			return uevent{}, false // cut off
		}
		if v, ok := bytes.CutPrefix(word, []byte("MODALIAS=")); ok {
			e.alias = string(v)
		}
	}
	return e, true
}

// waitDevice waits a little for a device to appear, and loads the modules that
// those ask for that did.
func (b *boot) waitDevice() {
	aliases, lost := b.sys.WaitDevice(devicePause)
	if lost {
		b.loadForDevices()
		return
	}
	for _, alias := range aliases {
		b.loadAlias(alias)
	}
}
