package boot

import (
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
var staticELF = "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 47) + "\x38\x00" + strings.Repeat("\x00", 8)

// TestHandover holds the order of what cannot be undone.
func TestHandover(t *testing.T) {
	f := withSystem(t, "init="+system+"/init -- one two=2")
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
		"mkdir /run/keys 755",
		"mount ramfs /run/keys ramfs 0x6 mode=750",
		"report",
		"mkdir /sysroot/proc 755",
		"mount /proc /sysroot/proc  0x2000 ",
		"mkdir /sysroot/sys 755",
		"mount /sys /sysroot/sys  0x2000 ",
		"mkdir /sysroot/dev 755",
		"mount /dev /sysroot/dev  0x2000 ",
		"mkdir /sysroot/run 755",
		"mount /run /sysroot/run  0x2000 ",
		"switch root /sysroot",
		`exec ` + system + `/init ["` + system + `/init" "one" "two=2"]`,
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
		{"a directory", func(f *fakeSystem) { delete(f.files, inNewRoot+"/init"); f.files[inNewRoot+"/init/"] = "" }, "init " + system + "/init: not a regular file"},
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

// TestHandoverBreaks holds that what fails on the way is reported.
func TestHandoverBreaks(t *testing.T) {
	for call, message := range map[string]string{
		"mount /sys /sysroot": "move the mount /sys: invalid argument",
		"switch root":         "switch root: invalid argument",
	} {
		f := withSystem(t, "init="+system+"/init")
		f.fail[call] = syscall.EINVAL
		if r := f.boot(); r.Outcome != bootproto.OutcomeFailed || r.Step != "init" || !strings.Contains(r.Message, message) {
			t.Errorf("%s: report %+v", call, r)
		}
		if len(f.made("exec")) > 0 {
			t.Errorf("%s: the init was executed", call)
		}
	}
}

// TestFindInit holds which program stands for init=.
func TestFindInit(t *testing.T) {
	tests := []struct {
		name, init string
		change     func(*fakeSystem)
		want       string
	}{
		{"script", system + "/init", nil, system + "/init"},
		{"systemd with its activation beside it", system + "/init", func(f *fakeSystem) {
			f.files[inNewRoot+"/init"] = staticELF
			f.files[inNewRoot+"/prepare-root"] = "#!" + system + "/sh"
		}, system + "/prepare-root"},
		{"activation that is not executable", system + "/init", func(f *fakeSystem) {
			f.files[inNewRoot+"/prepare-root"] = "#!" + system + "/sh"
			f.modes[inNewRoot+"/prepare-root"] = 0o444
		}, system + "/init"},
		{"link to a system", "/nix/store/link", func(f *fakeSystem) {
			f.files[newRoot+"/nix/store/link"] = "-> " + system + "/init"
			f.files[inNewRoot+"/prepare-root"] = "#!" + system + "/sh"
		}, system + "/prepare-root"},
		{"another name", system + "/sh", func(f *fakeSystem) {
			f.files[inNewRoot+"/prepare-root"] = "#!" + system + "/sh"
		}, system + "/sh"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := withSystem(t, "")
			if tt.change != nil {
				tt.change(f)
			}
			if got, err := (&boot{sys: f}).findInit(tt.init); err != nil || got != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
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
