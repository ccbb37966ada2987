package boot

import (
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"storeboot/internal/bootproto"
)

const (
	system    = "/nix/store/22222222222222222222222222222222-system"
	inNewRoot = newRoot + system
)

// withSystem is a machine whose store has a system with an init that is a
// script.
func withSystem(t *testing.T, cmdline string) *fakeSystem {
	f := newFake(t, cmdline)
	f.files[inNewRoot+"/"] = ""
	f.files[inNewRoot+"/init"] = "#!" + system + "/sh\n"
	f.files[inNewRoot+"/sh"] = staticELF
	return f
}

// staticELF is the shortest ELF header without program headers.
var staticELF = "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 11) + hereWide + strings.Repeat("\x00", 34) + "\x38\x00" + strings.Repeat("\x00", 8)

// Machines of ELF files that run here, of 64 and of 32 bits.
var hereWide, hereNarrow = elfMachines()

func elfMachines() (wide, narrow string) {
	if runtime.GOARCH == "arm64" {
		return "\xb7\x00", "\x28\x00"
	}
	return "\x3e\x00", "\x03\x00"
}

// TestHandover holds the order of what cannot be undone.
func TestHandover(t *testing.T) {
	f := withSystem(t, "init="+system+"/init -- one two=2")
	f.environ = []string{"TERM=x"}
	Run(f)
	if len(f.reports) < 1 || f.reports[0].Outcome != bootproto.OutcomeHandover {
		t.Fatalf("reports %+v", f.reports)
	}
	at := slices.Index(f.calls, "mkdir /sysroot 755")
	if at < 0 {
		t.Fatalf("calls %q", f.calls)
	}
	want := []string{
		"mkdir /sysroot 755",
		"mount tmpfs /sysroot tmpfs 0x0 mode=755",
		"mount  /  0x44000 ",
		"mkdir /sysroot/nix 755",
		"mkdir /sysroot/nix/store 755",
		"mount /nix/store /sysroot/nix/store  0x2000 ",
		"mkdir /sysroot/tmp 1777",
		"read /etc/resolv.conf",
		"mkdir /run/keys 755",
		"mount ramfs /run/keys ramfs 0x6 mode=750",
		"mkdir /sysroot/proc 755",
		"mount /proc /sysroot/proc  0x2000 ",
		"mkdir /sysroot/sys 755",
		"mount /sys /sysroot/sys  0x2000 ",
		"mkdir /sysroot/dev 755",
		"mount /dev /sysroot/dev  0x2000 ",
		"mkdir /sysroot/run 755",
		"mount /run /sysroot/run  0x2000 ",
		"read /sysroot/sys/class/dmi/id/product_uuid",
		"report",
		"switch root /sysroot",
		`exec ` + system + `/init ["` + system + `/init" "one" "two=2"] ["TERM=x" "PATH=/bin:/sbin:/usr/bin:/usr/sbin"]`,
	}
	got := f.calls[at:]
	if len(got) > len(want) {
		got = got[:len(want)]
	}
	if !slices.Equal(got, want) {
		t.Errorf("calls:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// The fake's exec fails: that is a report too, after which the machine is off.
	if r := f.reports[len(f.reports)-1]; r.Outcome != bootproto.OutcomeFailed || r.Step != "init" || !strings.Contains(r.Message, "execute "+system+"/init: exec format error") {
		t.Errorf("report %+v", r)
	}
}

// TestHandoverRefused holds that a wrong init is found out before anything
// that cannot be undone, and before the guest is said to be handed over.
func TestHandoverRefused(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*fakeSystem)
		message string
	}{
		{"missing init", func(f *fakeSystem) { delete(f.files, inNewRoot+"/init") }, "init " + system + "/init: no such file or directory"},
		{"missing store path", func(f *fakeSystem) { delete(f.files, inNewRoot+"/"); delete(f.files, inNewRoot+"/init") }, "store path " + system + " is not in the store"},
		{"not executable", func(f *fakeSystem) { f.modes[inNewRoot+"/init"] = 0o644 }, "init " + system + "/init: not executable"},
		{"a directory", func(f *fakeSystem) { delete(f.files, inNewRoot+"/init"); f.files[inNewRoot+"/init/"] = "" }, "init " + system + "/init/init: no such file"},
		{"not a program", func(f *fakeSystem) { f.files[inNewRoot+"/init"] = "hello" }, "init " + system + "/init: neither an ELF program nor a script"},
		{"missing interpreter", func(f *fakeSystem) { delete(f.files, inNewRoot+"/sh") }, "its interpreter " + system + "/sh: no such file"},
		{"interpreter not executable", func(f *fakeSystem) { f.modes[inNewRoot+"/sh"] = 0o444 }, "its interpreter " + system + "/sh: " + system + "/sh: not executable"},
		{"no memory", func(f *fakeSystem) { f.fail["mount tmpfs /sysroot"] = syscall.ENOMEM }, "mount /sysroot (tmpfs): cannot allocate memory"},
		{"store cannot move", func(f *fakeSystem) { f.fail["mount /nix/store"] = syscall.EINVAL }, "move the mount /nix/store: invalid argument"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := withSystem(t, "init="+system+"/init")
			tt.change(f)
			r := f.boot()
			if r.Outcome != bootproto.OutcomeFailed || r.Step != "root" || !strings.Contains(r.Message, tt.message) {
				t.Errorf("report %+v, want %q", r, tt.message)
			}
			if len(f.reports) != 1 || len(f.made("switch", "exec", "mount /proc", "mount /dev /sysroot")) > 0 {
				t.Errorf("reports %+v, calls %q", f.reports, f.calls)
			}
		})
	}
}

// TestHandoverBreaks holds that what fails on the way is reported, and that the
// mounts are back where they were as long as that can be.
func TestHandoverBreaks(t *testing.T) {
	tests := []struct{ call, step, message string }{
		{"mount /sys /sysroot", "activation", "move the mount /sys: invalid argument"},
		{"switch root", "init", "switch root: invalid argument"},
	}
	for _, tt := range tests {
		f := withSystem(t, "init="+system+"/init")
		f.fail[tt.call] = syscall.EINVAL
		if r := f.boot(); r.Outcome != bootproto.OutcomeFailed || r.Step != tt.step || !strings.Contains(r.Message, tt.message) {
			t.Errorf("%s: report %+v", tt.call, r)
		}
		if len(f.made("exec")) > 0 {
			t.Errorf("%s: the init was executed", tt.call)
		}
		if back := len(f.made("mount /sysroot/proc /proc")); (back == 1) != (tt.step == "activation") {
			t.Errorf("%s: /proc was moved back %d times", tt.call, back)
		}
	}
}

// TestMountsToMove holds which mounts of an image reach the system.
func TestMountsToMove(t *testing.T) {
	b := new(boot)
	for _, target := range []string{"/run/secrets", "/data", "/data/x", "/database", "/nix/store/x", "/nix/.rw-store", "/tmp/y", "/proc"} {
		b.spec.Mounts = append(b.spec.Mounts, bootproto.Mount{Target: target})
	}
	want := []string{"/proc", "/sys", "/dev", "/run", "/data", "/database", "/nix/.rw-store", "/tmp/y"}
	if got := b.mountsToMove(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
