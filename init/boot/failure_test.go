package boot

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"storeboot/internal/bootproto"
)

const withShell = `{"version":1,"shell":["/bin/sh"],"mode":"find"}`

// TestBreakpoints holds where a person gets a shell, and that the boot goes on.
func TestBreakpoints(t *testing.T) {
	f := newFake(t, "tvix.breakpoint=store,find")
	f.files[bootproto.BootSpecPath] = withShell
	f.ends = []fakeEnd{{fakePID, ExitStatus{Code: 1}}, {fakePID, ExitStatus{}}}
	if r := f.boot(); r.Outcome != bootproto.OutcomeExited {
		t.Errorf("report %+v", r)
	}
	got := f.made("start", "mount tvix", "list")
	want := []string{"start /bin/sh", "mount tvix /nix/store virtiofs 0x7 ", "start /bin/sh", "list /nix/store"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if s := f.terminal.out.String(); !strings.Contains(s, "breakpoint before the step store: the boot goes on") {
		t.Errorf("console %q", s)
	}
	for _, tt := range []struct{ words, boot, message string }{
		{"tvix.breakpoint=stroe", withShell, "breakpoint stroe: no such step of this boot (there are: modules, image-mounts,"},
		{"tvix.breakpoint=mounts", withShell, "breakpoint mounts: no such step"},
		{"tvix.breakpoint=root", withShell, "breakpoint root: no such step"},
		{"tvix.breakpoint=image-mounts", `{"version":1,"mode":"find"}`, "breakpoint image-mounts: this initrd has no shell"},
	} {
		f := newFake(t, tt.words)
		f.files[bootproto.BootSpecPath] = tt.boot
		if r := f.boot(); r.Step != "parameters" || !strings.Contains(r.Message, tt.message) {
			t.Errorf("%s: report %+v", tt.words, r)
		}
	}
	f = newFake(t, "tvix.breakpoint=store")
	f.files[bootproto.BootSpecPath] = withShell
	f.fail["start"] = syscall.ENOENT
	if r := f.boot(); r.Step != "store" || !strings.Contains(r.Message, "breakpoint: start /bin/sh: no such file") {
		t.Errorf("report %+v", r)
	}
}

// TestOnFail holds what follows a failure: the report is always the last word.
func TestOnFail(t *testing.T) {
	const person = `{"version":1,"argv":["/bin/x"],"terminal":true}`
	tests := []struct {
		name, words, boot, run string
		want                   []string
	}{
		{"nobody there", "tvix.find", withShell, "", []string{"report", "power off"}},
		{"asked for", "tvix.find tvix.onfail=shell", withShell, "", []string{"start /bin/sh", "report", "power off"}},
		{"asked for without one", "tvix.find tvix.onfail=shell", "", "", []string{"report", "power off"}},
		{"a person", "tvix.run", withShell, person, []string{"start /bin/sh", "report", "power off"}},
		{"a person without a shell", "tvix.run", "", person, []string{"report", "power off"}},
		{"a person who does not want it", "tvix.run tvix.onfail=poweroff", withShell, person, []string{"report", "power off"}},
		{"restart", "tvix.find tvix.onfail=reboot", withShell, "", []string{"report", "restart", "power off"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t, tt.words)
			f.files[bootproto.BootSpecPath] = tt.boot
			if tt.boot == "" {
				delete(f.files, bootproto.BootSpecPath)
			}
			if tt.run != "" {
				f.files[bootproto.RunSpecPath] = tt.run
			}
			f.fail["write /sys/class/bdi"] = syscall.ENOENT
			f.fail["list"] = syscall.EIO
			f.fail["start /bin/x"] = syscall.EACCES
			f.ends = []fakeEnd{{fakePID, ExitStatus{}}}
			r := f.boot()
			if r.Outcome != bootproto.OutcomeFailed {
				t.Errorf("report %+v", r)
			}
			if got := f.made("start /bin/sh", "report", "restart", "power off"); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if log := f.log.String(); !strings.Contains(log, "<3>storeboot: "+r.Step+": ") {
				t.Errorf("log %q", log)
			}
		})
	}
	// What goes wrong with the shell itself does not hide the failure.
	f := newFake(t, "tvix.find tvix.onfail=shell")
	f.files[bootproto.BootSpecPath] = withShell
	f.fail["list"] = syscall.EIO
	f.panicAt = "start"
	if r := f.boot(); r.Step != "find" {
		t.Errorf("report %+v", r)
	}
}

// TestDebug holds that everything is logged, and shown.
func TestDebug(t *testing.T) {
	f := newFake(t, "tvix.debug tvix.run=/bin/x fuse.a=1 modprobe.blacklist=evil")
	f.files[bootproto.BootSpecPath] = `{"version":1,"modules":[{"name":"fuse","path":"/fuse.ko","options":"b=2"},{"name":"evil","path":"/evil.ko"}]}`
	f.boot()
	log := f.log.String()
	for _, want := range []string{"<6>storeboot: module fuse b=2 a=1\n", "module evil is not loaded", `program ["/bin/x"] in /`, "step store took 0.000 ms"} {
		if !strings.Contains(log, want) {
			t.Errorf("log lacks %q: %s", want, log)
		}
	}
	if got := f.made("write /proc/sys/kernel/printk ", "module"); !slices.Equal(got, []string{"write /proc/sys/kernel/printk 8", "module /fuse.ko b=2 a=1"}) {
		t.Errorf("calls %q", got)
	}
}

// TestStopped holds that a boot ends between its steps, and while it waits, when
// the machine is to be powered off.
func TestStopped(t *testing.T) {
	for _, words := range []string{"tvix.run=/bin/x", "tvix.find tvix.tag=none", "init=/x root=/dev/none"} {
		f := newFake(t, words+" tvix.onfail=shell")
		f.files[bootproto.BootSpecPath] = withShell
		f.stopped = "the power button"
		r := f.boot()
		if r.Outcome != bootproto.OutcomeFailed || r.Status != 143 || r.Message != "stopped by the power button" || f.now > devicePause {
			t.Errorf("%s: report %+v after %v", words, r, f.now)
		}
		if len(f.made("start", "list", "exec")) > 0 {
			t.Errorf("%s: calls %q", words, f.calls)
		}
	}
}

// TestLimit holds the status of a program that takes too long, and whom it runs
// as.
func TestLimit(t *testing.T) {
	f := newFake(t, "tvix.run")
	f.files[bootproto.RunSpecPath] = `{"version":1,"argv":["/bin/x"],"limit_ms":1500,"user":{"uid":7,"gid":8,"groups":[9]}}`
	if r := f.boot(); r.Outcome != bootproto.OutcomeExited {
		t.Errorf("in time: %+v", r)
	}
	if u := f.program.User; u == nil || u.UID != 7 || u.GID != 8 || !slices.Equal(u.Groups, []uint32{9}) {
		t.Errorf("user %+v", u)
	}
	f = newFake(t, "tvix.run")
	f.files[bootproto.RunSpecPath] = `{"version":1,"argv":["/bin/x"],"limit_ms":1500}`
	f.fail["limit 42 1.5s"] = syscall.ETIME
	if r := f.boot(); r.Outcome != bootproto.OutcomeFailed || r.Status != 124 || r.Message != "program /bin/x: not done after 1.5s" {
		t.Errorf("too late: %+v", r)
	}
}
