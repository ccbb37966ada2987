package bootproto

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseCommandLine(t *testing.T) {
	tag36 := strings.Repeat("t", MaxTag)
	tests := []struct {
		line string
		want Params
		err  string
	}{
		{"", Params{}, ""},
		{"console=ttyS0 quiet root=fstab nixos.x=1 tvixx.find", Params{ModuleParams: []Word{{"tvixx.find", "", false}}}, ""},
		// The three spellings.
		{"tvix.find", Params{Mode: ModeFind}, ""},
		{"snix.find", Params{Mode: ModeFind}, ""},
		{"storeboot.find", Params{Mode: ModeFind}, ""},
		// Switches.
		{"tvix.find=1", Params{Mode: ModeFind}, ""},
		{"tvix.shell=yes", Params{Mode: ModeShell}, ""},
		{"tvix.shell=on tvix.find=off", Params{Mode: ModeShell}, ""},
		{"tvix.find=0", Params{}, ""},
		{"tvix.find tvix.find=no", Params{}, ""},
		{"tvix.find=maybe", Params{}, `tvix.find: value "maybe" is neither yes nor no`},
		// The order of the modes, and the last of a repeated parameter.
		{"init=/i tvix.run=/r tvix.shell snix.find", Params{Mode: ModeFind, Run: []string{"/r"}, Init: "/i"}, ""},
		{"init=/i tvix.run=/r tvix.shell", Params{Mode: ModeShell, Run: []string{"/r"}, Init: "/i"}, ""},
		{"init=/i tvix.run=/r", Params{Mode: ModeRun, Run: []string{"/r"}, Init: "/i"}, ""},
		{"init=/i init=/j", Params{Mode: ModeInit, Init: "/j"}, ""},
		{"tvix.run=/a snix.run=/b", Params{Mode: ModeRun, Run: []string{"/b"}}, ""},
		// run.
		{"tvix.run", Params{Mode: ModeRun}, ""},
		{"tvix.run=", Params{Mode: ModeRun}, ""},
		{`tvix.run="/bin/x 'a b' c"`, Params{Mode: ModeRun, Run: []string{"/bin/x", "a b", "c"}}, ""},
		{`"tvix.run=/bin/x a\ b"`, Params{Mode: ModeRun, Run: []string{"/bin/x", "a b"}}, ""},
		{`tvix.run="/bin/x 'a"`, Params{}, "tvix.run: a quote is not closed"},
		// init.
		{"init=/i -- one two=2", Params{Mode: ModeInit, Init: "/i", InitArgs: []string{"one", "two=2"}}, ""},
		{"init=", Params{}, ""},
		{"init=sh", Params{}, `init: "sh" is not an absolute path`},
		{"init=sh tvix.find", Params{Mode: ModeFind, Init: "sh"}, ""},
		{"-- tvix.find=maybe", Params{InitArgs: []string{"tvix.find=maybe"}}, ""},
		// tag.
		{"tvix.tag=my snix.tag=other", Params{Tag: "other"}, ""},
		{"tvix.tag=" + tag36, Params{Tag: tag36}, ""},
		{"tvix.tag=" + tag36 + "t", Params{}, "has 37 bytes, 1 to 36 are possible"},
		{"tvix.tag", Params{}, "has 0 bytes"},
		// console.
		{"tvix.console=hvc0", Params{Console: "hvc0"}, ""},
		{"tvix.console=/dev/hvc0", Params{Console: "hvc0"}, ""},
		{"tvix.console=", Params{}, `"" is not the name of a device`},
		{"tvix.console=/dev/", Params{}, "is not the name of a device"},
		{"tvix.console=../sda", Params{}, "is not the name of a device"},
		{"tvix.console=..", Params{}, "is not the name of a device"},
		{"tvix.console=pts/0", Params{}, "is not the name of a device"},
		// What happens on the way.
		{"tvix.debug snix.onfail=shell storeboot.breakpoint=store,init", Params{Debug: true, OnFail: OnFailShell, Breakpoints: []string{"store", "init"}}, ""},
		{"tvix.onfail=reboot tvix.onfail=poweroff", Params{OnFail: OnFailPowerOff}, ""},
		{"tvix.onfail=explode", Params{}, `"explode": want shell, poweroff or reboot`},
		{"tvix.breakpoint=a,,b", Params{}, `"a,,b": want the name of a step`},
		{"tvix.breakpoint", Params{}, "want the name of a step"},
		{"tvix.store.overlay=tmpfs", Params{StoreOverlay: "tmpfs"}, ""},
		{"tvix.store.overlay", Params{}, "want tmpfs, or a disk"},
		// The root file system.
		{"root=LABEL=x rootfstype=ext4 rootflags=noatime,x=y ro", Params{Root: Root{Source: "LABEL=x", Type: "ext4", Flags: "noatime,x=y", ReadOnly: true}}, ""},
		{"ro rw root=/dev/vda1 rootwait=7", Params{Root: Root{Source: "/dev/vda1", Wait: 7 * time.Second}}, ""},
		{"rootwait root=gpt-auto", Params{Root: Root{Wait: MaxRootWait}}, ""},
		{"rootwait=1000000", Params{Root: Root{Wait: MaxRootWait}}, ""},
		{"rootwait=x", Params{}, `rootwait: "x": want a number of seconds`},
		{"rootwait=-1", Params{}, "want a number of seconds"},
		// Modules.
		{"modprobe.blacklist=a,b-c module_blacklist=d", Params{Blacklist: []string{"a", "b-c", "d"}}, ""},
		{"fuse.max=1 rd.x systemd.y=1", Params{ModuleParams: []Word{{"fuse.max", "1", true}}}, ""},
		// Unknown names in our namespace.
		{"tvix.fnid", Params{}, "tvix.fnid: no such parameter (there are: find, shell, run, tag, console, store.overlay, debug, breakpoint, onfail)"},
		{"snix.", Params{}, "snix.: no such parameter"},
		{"storeboot.init=/x", Params{}, "storeboot.init: no such parameter"},
	}
	for _, tt := range tests {
		got, err := ParseCommandLine(tt.line)
		if tt.err == "" {
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%s: %+v, %v; want %+v", tt.line, got, err, tt.want)
			}
			continue
		}
		if !errors.Is(err, ErrParameter) || !strings.Contains(err.Error(), tt.err) || !reflect.DeepEqual(got, Params{}) {
			t.Errorf("%s: %+v, %v; want error %q", tt.line, got, err, tt.err)
		}
	}
}

// TestParametersAreParsed holds that the table and the parser agree.
func TestParametersAreParsed(t *testing.T) {
	for _, p := range Parameters() {
		for _, prefix := range Prefixes() {
			if p.Name == "init" {
				prefix = ""
			}
			line := prefix + p.Name
			switch {
			case p.Name == "onfail":
				line += "=shell"
			case p.Value != "":
				line += "=/dev/x"
			}
			if _, err := ParseCommandLine(line); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
}

func FuzzParseCommandLine(f *testing.F) {
	f.Add("console=ttyS0 tvix.run=\"/nix/store/x 'a b'\" snix.tag=t storeboot.console=hvc0 init=/x -- y")
	f.Add("tvix.find=maybe")
	f.Add("init=x")
	f.Fuzz(func(t *testing.T, line string) {
		p, err := ParseCommandLine(line)
		if err != nil {
			if !errors.Is(err, ErrParameter) || !reflect.DeepEqual(p, Params{}) {
				t.Errorf("%+v beside %v", p, err)
			}
			return
		}
		if len(p.Tag) > MaxTag || strings.Contains(p.Console, "/") || p.Mode == ModeInit && !strings.HasPrefix(p.Init, "/") || p.Mode == ModeNone && len(p.Run) > 0 {
			t.Errorf("%q: %+v", line, p)
		}
	})
}

func TestModuleOptions(t *testing.T) {
	p, err := ParseCommandLine(`virtio-fs.a=1 virtio_fs.b virtio_fs.c="x y" other.d=2 virtio_fs.a=3 modprobe.blacklist=b-c,d`)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.ModuleOptions("virtio_fs"), `a=1 b c="x y" a=3`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := p.ModuleOptions("virtio"); got != "" {
		t.Errorf("virtio: %q", got)
	}
	if !p.Blacklisted("b_c") || !p.Blacklisted("d") || p.Blacklisted("b") {
		t.Errorf("blacklist %q", p.Blacklist)
	}
}
