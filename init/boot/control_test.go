package boot

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"storeboot/internal/bootproto"
)

// withPorts is a machine with all ports, and a run specification with the words
// added.
func withPorts(t *testing.T, words string) *fakeSystem {
	f := newFake(t, "tvix.run storeboot.console=hvc0")
	f.files[bootproto.RunSpecPath] = `{"version":1,"argv":["/bin/x"],` + words + `}`
	for i, name := range []string{bootproto.StdinPortName, bootproto.StdoutPortName, bootproto.StderrPortName, bootproto.ControlPortName} {
		f.files[fmt.Sprintf("/sys/class/virtio-ports/vport0p%d/name", i+1)] = name + "\n"
		f.files[fmt.Sprintf("/dev/vport0p%d", i+1)] = ""
	}
	return f
}

func TestOutputPorts(t *testing.T) {
	for words, want := range map[string][2]string{
		`"stdout":"port","stderr":"port"`:    {"/dev/vport0p2", "/dev/vport0p3"},
		`"stdout":"port"`:                    {"/dev/vport0p2", ""},
		`"stdout":"console","stderr":"port"`: {"", "/dev/vport0p3"},
		`"stdin":"port"`:                     {"", ""},
	} {
		f := withPorts(t, words)
		r := f.boot()
		if f.program == nil || f.program.Stdout != want[0] || f.program.Stderr != want[1] {
			t.Errorf("%s: program %+v, want %q; report %+v", words, f.program, want, r)
		}
	}
	f := withPorts(t, `"stderr":"port"`)
	delete(f.files, "/dev/vport0p3")
	if r := f.boot(); r.Outcome != bootproto.OutcomeFailed || !strings.Contains(r.Message, bootproto.StderrPortName) {
		t.Errorf("without the device: %+v", r)
	}
	// The kernel's console stays as it is if the program has nothing of it.
	f = withPorts(t, `"stdin":"null","stdout":"port","stderr":"port"`)
	f.files["/proc/cmdline"] = "tvix.run\n"
	f.boot()
	if c := f.made("raw"); len(c) > 0 {
		t.Errorf("the console was set: %q", c)
	}
}

func TestControl(t *testing.T) {
	f := withPorts(t, `"control":true,"terminal":true,"rows":24,"columns":80`)
	f.lines = []string{`{"rows":50,"columns":132}`, `{"signal":10}`, `{"rows":1}`, "nonsense", `{"signal":99}`}
	r := f.boot()
	want := []string{"process 42", "lines /dev/vport0p4", "resize 50 132", "signal 42 10", "close process 42"}
	if got := f.made("process", "lines", "resize", "signal", "close"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if n := strings.Count(f.log.String(), "<4>"); n != 2 || r.Outcome != bootproto.OutcomeExited {
		t.Errorf("%d warnings, want 2; %s; report %+v", n, f.log.String(), r)
	}
}

// TestControlFails holds that a program is run without, if that is how it is.
func TestControlFails(t *testing.T) {
	for _, call := range []string{"process", "lines"} {
		f := withPorts(t, `"control":true`)
		f.fail[call] = syscall.EIO
		if r := f.boot(); r.Outcome != bootproto.OutcomeExited || !strings.Contains(f.log.String(), "do not reach the program") {
			t.Errorf("%s fails: %+v; %s", call, r, f.log.String())
		}
	}
	f := withPorts(t, `"control":true`)
	f.lines = []string{`{"signal":1}`}
	f.gone = true
	if r := f.boot(); r.Outcome != bootproto.OutcomeExited || strings.Contains(f.log.String(), "<4>") {
		t.Errorf("%+v; %s", r, f.log.String())
	}
	// After its end nothing reaches what has its number then.
	c := &controlled{process: fakeProcess{f, 1}, terminal: f.terminal, log: &kernelLog{}}
	c.stop()
	c.stop()
	f.calls = nil
	c.obey(`{"signal":9,"rows":1,"columns":1}`)
	if len(f.calls) > 0 {
		t.Errorf("after the end: %q", f.calls)
	}
}
