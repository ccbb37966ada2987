package bootproto

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParseCommandLine(t *testing.T) {
	tag36 := strings.Repeat("t", MaxTag)
	tests := []struct {
		line string
		want Params
		err  string
	}{
		{"", Params{}, ""},
		{"console=ttyS0 quiet root=fstab nixos.x=1 tvixx.find", Params{}, ""},
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
		// Unknown names in our namespace.
		{"tvix.fnid", Params{}, "tvix.fnid: no such parameter (there are: find, shell, run, tag, console)"},
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
			if p.Value != "" {
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
