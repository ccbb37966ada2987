package boot

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"storeboot/internal/bootproto"
)

const systemd = system + "/systemd/lib/systemd/systemd"

// A stage 2 that knows the variable, and one from before it.
const (
	stage2    = "#!" + system + "/sh\nif [ -z \"$IN_NIXOS_SYSTEMD_STAGE1\" ]; then exec @systemd@; fi\n"
	oldStage2 = "#!" + system + "/sh\nexec systemd \"$@\"\n"
)

// nixOS makes the system of withSystem one of NixOS, of the kind.
func nixOS(f *fakeSystem, kind string) {
	f.files[inNewRoot+"/nixos-version"] = "26.05"
	f.files[newRoot+systemd] = staticELF
	f.files[inNewRoot+"/boot.json"] = `{"org.nixos.bootspec.v1":{"label":"x"},"org.nixos.nixos-init.v1":{"nix_store_mount_opts":["ro","nodev","nosuid"]}}`
	switch kind {
	case "A":
		f.files[inNewRoot+"/init"] = stage2
	case "B":
		f.files[inNewRoot+"/init"] = staticELF
		f.files[inNewRoot+"/prepare-root"] = stage2
	case "C":
		f.files[inNewRoot+"/init"] = staticELF
	}
}

// TestFindSystem holds what stands for init=.
func TestFindSystem(t *testing.T) {
	const init = system + "/init"
	tests := []struct {
		name, init string
		change     func(*fakeSystem)
		want       newSystem // without data
	}{
		{"a script that is no system", init, nil, newSystem{kind: "a program", exec: init}},
		{"A", init, func(f *fakeSystem) { nixOS(f, "A") },
			newSystem{kind: "NixOS, kind A", top: system, exec: systemd, activation: init, systemd: true}},
		{"A, old", init, func(f *fakeSystem) { nixOS(f, "A"); f.files[inNewRoot+"/init"] = oldStage2 },
			newSystem{kind: "NixOS, kind A, which starts its systemd itself", top: system, exec: init, systemd: true}},
		{"A without its systemd", init, func(f *fakeSystem) { nixOS(f, "A"); delete(f.files, newRoot+systemd) },
			newSystem{kind: "NixOS, kind A, which starts its systemd itself", top: system, exec: init}},
		{"A by its directory", system, func(f *fakeSystem) { nixOS(f, "A") },
			newSystem{kind: "NixOS, kind A", top: system, exec: systemd, activation: init, systemd: true}},
		{"B", init, func(f *fakeSystem) { nixOS(f, "B") },
			newSystem{kind: "NixOS, kind B", top: system, exec: systemd, activation: system + "/prepare-root", systemd: true}},
		{"B by a link", "/nix/store/link", func(f *fakeSystem) {
			nixOS(f, "B")
			f.files[newRoot+"/nix/store/link"] = "-> " + init
		}, newSystem{kind: "NixOS, kind B", top: system, exec: systemd, activation: system + "/prepare-root", systemd: true}},
		{"B whose script cannot be executed is C", init, func(f *fakeSystem) { nixOS(f, "B"); f.modes[inNewRoot+"/prepare-root"] = 0o444 },
			newSystem{kind: "NixOS, kind C", top: system, exec: systemd, systemd: true}},
		{"C", init, func(f *fakeSystem) { nixOS(f, "C") },
			newSystem{kind: "NixOS, kind C", top: system, exec: systemd, systemd: true}},
		{"C without its systemd", init, func(f *fakeSystem) { nixOS(f, "C"); delete(f.files, newRoot+systemd) },
			newSystem{kind: "NixOS, kind C", top: system, exec: init, systemd: true}},
		{"ELF without data", init, func(f *fakeSystem) { nixOS(f, "C"); delete(f.files, inNewRoot+"/boot.json") },
			newSystem{kind: "a program", exec: init}},
		{"ELF with data of another kind", init, func(f *fakeSystem) { nixOS(f, "C"); f.files[inNewRoot+"/boot.json"] = "{}" },
			newSystem{kind: "a program", exec: init}},
		{"another program of a system", system + "/sh", func(f *fakeSystem) { f.files[inNewRoot+"/prepare-root"] = stage2 },
			newSystem{kind: "a program", exec: system + "/sh"}},
		{"systemd itself", systemd, func(f *fakeSystem) { f.files[newRoot+systemd] = staticELF },
			newSystem{kind: "a program", exec: systemd, systemd: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := withSystem(t, "")
			if tt.change != nil {
				tt.change(f)
			}
			got, err := (&boot{sys: f}).findSystem(tt.init)
			if err != nil {
				t.Fatal(err)
			}
			if (got.data != nil) != (tt.want.kind == "NixOS, kind C") {
				t.Errorf("data %+v", got.data)
			}
			got.data = nil
			if *got != tt.want {
				t.Errorf("%+v, want %+v", *got, tt.want)
			}
		})
	}
}

// TestActivation holds how a system with a script is started.
func TestActivation(t *testing.T) {
	f := withSystem(t, "init="+system+"/init -- --log-level=debug")
	nixOS(f, "B")
	f.output = []string{"setting up /etc...", ""}
	f.now = 1500 * time.Microsecond
	Run(f)
	at := slices.Index(f.calls, "mount /run /sysroot/run  0x2000 ")
	if at < 0 {
		t.Fatalf("calls %q", f.calls)
	}
	want := []string{
		"start /sysroot" + system + "/prepare-root",
		"wait",
		"wait",
		"drain output",
		"read /sysroot/sys/class/dmi/id/product_uuid",
		`memory file initrd "initrd-timestamp=1700000000001500 1500\n\n"`,
		"report",
		"switch root /sysroot",
		`exec ` + systemd + ` ["` + systemd + `" "--switched-root" "--system" "--deserialize" "9" "--log-level=debug"] ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"]`,
	}
	got := f.calls[at+1:]
	if got = got[:min(len(got), len(want))]; !slices.Equal(got, want) {
		t.Errorf("calls:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if p := f.program; !slices.Equal(p.Env, []string{"IN_NIXOS_SYSTEMD_STAGE1=true"}) || p.Input != "/sysroot/dev/null" || !p.Session {
		t.Errorf("program %+v", p)
	}
	if log := f.log.String(); !strings.Contains(log, "<6>storeboot: activation: setting up /etc...\n") {
		t.Errorf("log %q", log)
	}
}

// TestActivationFails holds that the boot ends with the script's last words, and
// that the mounts are where they were.
func TestActivationFails(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*fakeSystem)
		message string
	}{
		{"status", func(f *fakeSystem) { f.ends[1].status = ExitStatus{Code: 4} }, `prepare-root: exit status 4; its last words: "cannot make users"`},
		{"signal", func(f *fakeSystem) { f.ends[1].status = ExitStatus{Signal: 9} }, "ended by signal 9"},
		{"start", func(f *fakeSystem) { f.fail["start"] = syscall.ENOMEM }, "activation " + system + "/prepare-root: start: cannot allocate memory"},
		{"lost", func(f *fakeSystem) { f.ends = nil }, "prepare-root: wait: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := withSystem(t, "init="+system)
			nixOS(f, "B")
			f.output = []string{"cannot make users", " "}
			tt.change(f)
			r := f.boot()
			if r.Outcome != bootproto.OutcomeFailed || r.Step != "activation" || !strings.Contains(r.Message, tt.message) {
				t.Errorf("report %+v", r)
			}
			if len(f.reports) != 1 || len(f.made("switch", "exec")) > 0 {
				t.Errorf("calls %q", f.calls)
			}
			want := []string{"mount /sysroot/run /run  0x2000 ", "mount /sysroot/dev /dev  0x2000 ", "mount /sysroot/sys /sys  0x2000 ", "mount /sysroot/proc /proc  0x2000 "}
			if got := f.made("mount /sysroot/"); !slices.Equal(got, want) {
				t.Errorf("moved back %q", got)
			}
		})
	}
}

// TestActivationByData holds what is done for a system that has no script, and
// that no process is started for it.
func TestActivationByData(t *testing.T) {
	f := withSystem(t, "init="+system+"/init")
	nixOS(f, "C")
	f.files[inNewRoot+"/etc.erofs"] = "image"
	f.files[inNewRoot+"/etc-base/"] = ""
	f.files[newRoot+"/sys/class/dmi/id/product_uuid"] = "11111111-2222-3333-4444-55555555555A\n"
	f.files[inNewRoot+"/boot.json"] = `{"org.nixos.nixos-init.v1":{
		"nix_store_mount_opts":["ro","nodev","nosuid","noexec"],
		"firmware":"` + system + `/firmware","modprobe_binary":"` + system + `/modprobe",
		"env_binary":"` + system + `/env","sh_binary":"` + system + `/sh","unknown":1,
		"etc_metadata_image":"` + system + `/etc.erofs","etc_basedir":"` + system + `/etc-base",
		"special_filesystems":[
			{"mountpoint":"/proc","device":"proc","fstype":"proc","options":["nodev","noexec","nosuid"]},
			{"mountpoint":"/run","device":"tmpfs","fstype":"tmpfs","options":["nosuid","size=10%"]},
			{"mountpoint":"/usr","device":"/nix/store/usr","fstype":"none","options":["bind"]},
			{"mountpoint":"/dev/hugepages","device":"hugetlbfs","fstype":"hugetlbfs","options":["nosuid"]}]}}`
	f.fail["mount overlay /sysroot/etc overlay 0x200006 redirect_dir=on,metacopy=on,lowerdir=/sysroot/run/nixos-etc-metadata::"] = syscall.EINVAL
	Run(f)
	at := slices.Index(f.calls, "mount /run /sysroot/run  0x2000 ")
	if at < 0 {
		t.Fatalf("calls %q", f.calls)
	}
	got := slices.DeleteFunc(f.calls[at+1:], func(s string) bool { return strings.HasPrefix(s, "mkdir") })
	want := []string{
		"mount  /sysroot/run  0x22 size=10%",
		"mount /sysroot/nix/store/usr /sysroot/usr none 0x1000 ",
		"mount hugetlbfs /sysroot/dev/hugepages hugetlbfs 0x2 ",
		"mount /sysroot/nix/store /sysroot/nix/store  0x1000 ",
		"mount  /sysroot/nix/store  0x102f ",
		"symlink " + system + " /sysroot/run/booted-system",
		"symlink " + system + " /sysroot/run/current-system",
		"write /sysroot/proc/sys/kernel/modprobe " + system + "/modprobe",
		"write /sysroot/sys/module/firmware_class/parameters/path " + system + "/firmware",
		"symlink " + system + "/env /sysroot/usr/bin/env",
		"symlink " + system + "/sh /sysroot/bin/sh",
		"mount overlay /sysroot/etc overlay 0x200006 redirect_dir=on,metacopy=on,lowerdir=/sysroot/run/nixos-etc-metadata::/sysroot" + system + "/etc-base,upperdir=/sysroot/.rw-etc/upper,workdir=/sysroot/.rw-etc/work",
		"mount overlay /sysroot/etc overlay 0x200006 redirect_dir=on,metacopy=on,lowerdir=/sysroot/run/nixos-etc-metadata:/sysroot" + system + "/etc-base,upperdir=/sysroot/.rw-etc/upper,workdir=/sysroot/.rw-etc/work",
		"read /sysroot/sys/class/dmi/id/product_uuid",
		`create /sysroot/etc/machine-id "1111111122223333444455555555555a\n"`,
	}
	if got = got[:min(len(got), len(want))]; !slices.Equal(got, want) {
		t.Errorf("calls:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(f.made("start")) > 0 {
		t.Error("a process was started")
	}
	want = []string{"loop /sysroot" + system + "/etc.erofs", "mount /dev/loop3 /run/nixos-etc-metadata erofs 0x7 "}
	if got := f.calls[:at]; !slices.Contains(got, want[0]) || !slices.Contains(got, want[1]) {
		t.Errorf("before the mounts were moved: %q, want %q", got, want)
	}
	if r := f.reports[0]; r.Outcome != bootproto.OutcomeHandover {
		t.Errorf("report %+v", r)
	}
}

// TestActivationDataFails holds the errors of a system without a script.
func TestActivationDataFails(t *testing.T) {
	const all = `"etc_metadata_image":"` + system + `/etc.erofs","etc_basedir":"` + system + `/b"`
	tests := []struct{ name, data, fail, step, message string }{
		{"not JSON", `{`, "", "root", "boot.json: unexpected EOF"},
		{"wrong type", `{"firmware":1}`, "", "root", "want a string"},
		{"relative mount", `{"special_filesystems":[{"mountpoint":"proc","fstype":"proc"}]}`, "", "root", `special file system "proc"`},
		{"half of /etc", `{"etc_basedir":"/x"}`, "", "root", "belong together"},
		{"missing image", `{"etc_metadata_image":"/nix/store/none","etc_basedir":"/x"}`, "", "root", "boot.json: overlay of /etc: no such file"},
		{"no loop", `{` + all + `}`, "loop", "activation", "lacks the module loop"},
		{"no erofs", `{` + all + `}`, "mount /dev/loop3", "activation", "lacks the module erofs"},
		{"no overlay", `{` + all + `}`, "mount overlay", "activation", "lacks the module overlay"},
		{"no link", `{}`, "symlink " + system + " /sysroot/run/booted-system", "activation", "link /run/booted-system"},
		{"no store options", `{"nix_store_mount_opts":["noexec"]}`, "mount /sysroot/nix/store", "activation", "mount the store with noexec"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := withSystem(t, "init="+system+"/init")
			nixOS(f, "C")
			f.files[inNewRoot+"/etc.erofs"] = "image"
			f.files[inNewRoot+"/b/"] = ""
			f.files[inNewRoot+"/boot.json"] = `{"org.nixos.nixos-init.v1":` + tt.data
			if tt.data != "{" {
				f.files[inNewRoot+"/boot.json"] += "}"
			}
			if tt.fail != "" {
				f.fail[tt.fail] = syscall.ENODEV
			}
			if r := f.boot(); r.Outcome != bootproto.OutcomeFailed || r.Step != tt.step || !strings.Contains(r.Message, tt.message) {
				t.Errorf("report %+v", r)
			}
		})
	}
}

func FuzzParseActivation(f *testing.F) {
	f.Add([]byte(`{"org.nixos.nixos-init.v1":{"env_binary":"","special_filesystems":[{"mountpoint":"/x","fstype":"y","options":["a"]}]}}`))
	f.Add([]byte(`{"org.nixos.nixos-init.v1":{"etc_basedir":"/x"}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := parseActivation(text, "boot.json")
		if err != nil || d == nil {
			return
		}
		for _, s := range d.Special {
			if !strings.HasPrefix(s.Target, "/") || s.Target == "/" || strings.Contains(s.Target, "/../") {
				t.Errorf("%+v", s)
			}
		}
	})
}
