package boot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"storeboot/internal/bootproto"
)

const prog = "/nix/store/11111111111111111111111111111111-x/bin/x"

// TestPlan holds the whole of a boot, call by call.
func TestPlan(t *testing.T) {
	f := newFake(t, "tvix.run=\""+prog+" 'a b'\" storeboot.console=hvc0")
	f.files[bootproto.BootSpecPath] = `{"version":1,"kernel":"6.1.0-fake","modules":[
		{"name":"fuse","path":"/lib/fuse.ko"},{"name":"virtiofs","path":"/lib/virtiofs.ko","options":"a=1"}],
		"mounts":[{"source":"none","target":"/mnt/x","type":"tmpfs","options":"ro,size=1m"}]}`
	f.ends[1].status = ExitStatus{Code: 3}
	r := f.boot()
	want := []string{
		"mkdir /proc 755",
		"mount proc /proc proc 0xe ",
		"mkdir /sys 755",
		"mount sysfs /sys sysfs 0xe ",
		"mkdir /dev 755",
		"mount devtmpfs /dev devtmpfs 0x1000002 mode=755,size=5%",
		"mkdir /dev/pts 755",
		"mount devpts /dev/pts devpts 0xa mode=620,ptmxmode=0666,gid=3",
		"mkdir /dev/shm 755",
		"mount tmpfs /dev/shm tmpfs 0x1000006 mode=1777,size=50%",
		"mkdir /run 755",
		"mount tmpfs /run tmpfs 0x1000006 mode=755,size=25%",
		"mkdir /tmp 755",
		"mount tmpfs /tmp tmpfs 0x1000006 mode=1777,size=50%",
		"symlink /proc/self/fd /dev/fd",
		"symlink /proc/self/fd/0 /dev/stdin",
		"symlink /proc/self/fd/1 /dev/stdout",
		"symlink /proc/self/fd/2 /dev/stderr",
		"write /proc/sys/kernel/printk_devkmsg on\n",
		"kmsg",
		"read /proc/cmdline",
		"read /etc/storeboot/boot.json",
		"read /etc/storeboot/run.json",
		"module /lib/fuse.ko ",
		"module /lib/virtiofs.ko a=1",
		"read /lib/modules/6.1.0-fake/modules.alias",
		"mkdir /mnt 755",
		"mkdir /mnt/x 755",
		"mount none /mnt/x tmpfs 0x1 size=1m",
		"mkdir /nix 755",
		"mkdir /nix/store 755",
		"mount tvix /nix/store virtiofs 0x7 ",
		"store /nix/store",
		"write /sys/class/bdi/0:31/read_ahead_kb 1024",
		"terminal /dev/hvc0",
		"raw",
		"loopback",
		"start " + prog + " a b",
		"wait",
		"wait",
		"end processes",
		"drain output",
		"restore",
		"report",
		"power off",
	}
	if !slices.Equal(f.calls, want) {
		t.Errorf("calls:\n%s\nwant:\n%s", strings.Join(f.calls, "\n"), strings.Join(want, "\n"))
	}
	if r.Outcome != bootproto.OutcomeExited || r.Status != 3 || r.ExitStatus() != 3 {
		t.Errorf("report %+v", r)
	}
	var names []string
	for _, s := range r.Steps {
		names = append(names, s.Name)
	}
	var plan []string
	for _, s := range Plan(bootproto.ModeRun) {
		plan = append(plan, s.Name)
	}
	if !slices.Equal(names, plan) {
		t.Errorf("steps %q, plan %q", names, plan)
	}
	if !f.program.Session || f.program.Input != "" || f.program.Dir != "/" {
		t.Errorf("program %+v", f.program)
	}
}

// TestInput holds where the program's input comes from.
func TestInput(t *testing.T) {
	for stdin, want := range map[bootproto.Stdin]string{
		"": "", bootproto.StdinConsole: "", bootproto.StdinNull: "/dev/null", bootproto.StdinPort: "/dev/vport3p1",
	} {
		f := newFake(t, "tvix.run")
		f.files[bootproto.RunSpecPath] = `{"version":1,"argv":["/bin/x"],"stdin":"` + string(stdin) + `"}`
		f.files["/sys/class/virtio-ports/vport3p0/name"] = "other\n"
		f.files["/sys/class/virtio-ports/vport3p1/name"] = bootproto.StdinPortName + "\n"
		f.files["/dev/vport3p1"] = ""
		if r := f.boot(); r.Outcome != bootproto.OutcomeExited || f.program.Input != want {
			t.Errorf("%q: input %q, want %q; report %+v", stdin, f.program.Input, want, r)
		}
	}
	f := newFake(t, "tvix.run")
	f.files[bootproto.RunSpecPath] = `{"version":1,"argv":["/bin/x"],"stdin":"port"}`
	if r := f.boot(); r.Outcome != bootproto.OutcomeFailed || !strings.Contains(r.Message, bootproto.StdinPortName) || f.now < deviceWait {
		t.Errorf("without the port: %+v", r)
	}
}

// TestModes holds what each mode does once the store is mounted.
func TestModes(t *testing.T) {
	const shell = `{"version":1,"shell":["/bin/sh","-l"]`
	tests := []struct {
		name, cmdline, boot, run string
		want                     []string // the calls that matter
	}{
		{"find on the kernel's console", "tvix.find", "", "",
			[]string{"write /proc/sys/kernel/printk 4", "terminal /dev/ttyS0", "list /nix/store", "restore"}},
		{"find on a console of its own", "snix.find storeboot.console=/dev/hvc0", "", "",
			[]string{"terminal /dev/hvc0", "raw", "list /nix/store", "restore"}},
		{"find by the image", "", `{"version":1,"mode":"find"}`, "",
			[]string{"write /proc/sys/kernel/printk 4", "terminal /dev/ttyS0", "list /nix/store", "restore"}},
		{"the command line before the image", "init=/nix/store/x/init", `{"version":1,"mode":"find"}`, "", nil},
		{"shell", "tvix.shell", shell + "}", "",
			[]string{"write /proc/sys/kernel/printk 4", "terminal /dev/ttyS0", "cooked 0 0", "control", "start /bin/sh -l", "restore"}},
		{"shell with the terminal's size", "tvix.shell storeboot.console=hvc0", shell + "}", `{"version":1,"argv":["/x"],"rows":33,"columns":99}`,
			[]string{"terminal /dev/hvc0", "cooked 33 99", "control", "start /bin/sh -l", "restore"}},
		{"run on the kernel's console", "tvix.run=/bin/x", "", "",
			[]string{"write /proc/sys/kernel/printk 4", "terminal /dev/ttyS0", "cooked 0 0", "control", "start /bin/x", "restore"}},
		{"run by the specification", "tvix.run", "", `{"version":1,"argv":["/bin/y","z"]}`,
			[]string{"write /proc/sys/kernel/printk 4", "terminal /dev/ttyS0", "raw", "start /bin/y z", "restore"}},
		{"run at a person's terminal", "tvix.run storeboot.console=hvc0", "", `{"version":1,"argv":["/bin/y"],"terminal":true,"rows":1,"columns":2}`,
			[]string{"terminal /dev/hvc0", "cooked 1 2", "control", "start /bin/y", "restore"}},
		{"the command line's program", "tvix.run=/bin/x", "", `{"version":1,"argv":["/bin/y"]}`,
			[]string{"write /proc/sys/kernel/printk 4", "terminal /dev/ttyS0", "raw", "start /bin/x", "restore"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t, tt.cmdline)
			if tt.boot != "" {
				f.files[bootproto.BootSpecPath] = tt.boot
			}
			if tt.run != "" {
				f.files[bootproto.RunSpecPath] = tt.run
			}
			r := f.boot()
			got := f.made("write /proc/sys/kernel/printk ", "terminal", "raw", "cooked", "control", "list", "start", "restore")
			if tt.want == nil {
				if r.Step != "root" {
					t.Errorf("report %+v, want a failure to find the init", r)
				}
				return
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("calls %q, want %q", got, tt.want)
			}
			if r.Outcome != bootproto.OutcomeExited || r.Status != 0 {
				t.Errorf("report %+v", r)
			}
		})
	}
}

// TestFailures holds the report of whatever can go wrong. The machine is always
// powered off (fakeSystem.boot), after every process was ended.
func TestFailures(t *testing.T) {
	const run = "tvix.run=" + prog
	store := func(f *fakeSystem) { f.files["/nix/store/11111111111111111111111111111111-x/"] = "" }
	tests := []struct {
		name, cmdline string
		change        func(*fakeSystem)
		step          string
		status        int
		message       string
	}{
		{"special mount", run, func(f *fakeSystem) { f.fail["mount sysfs"] = syscall.EPERM }, "mounts", 1, "mount /sys (sysfs): operation not permitted"},
		{"kernel log", run, func(f *fakeSystem) { f.fail["kmsg"] = syscall.ENOENT }, "mounts", 1, "open /dev/kmsg: no such file"},
		{"unknown parameter", "tvix.fnid", nil, "parameters", 1, "tvix.fnid: no such parameter (there are: find"},
		{"broken boot specification", run, func(f *fakeSystem) { f.files[bootproto.BootSpecPath] = `{"version":1,"modlues":[]}` }, "parameters", 1, `/etc/storeboot/boot.json: boot specification: byte 23: unknown key "modlues"`},
		{"empty run specification", run, func(f *fakeSystem) { f.files[bootproto.RunSpecPath] = "" }, "parameters", 1, "/etc/storeboot/run.json"},
		{"unreadable specification", run, func(f *fakeSystem) { f.fail["read /etc/storeboot/run.json"] = syscall.EIO }, "parameters", 1, "read /etc/storeboot/run.json: input/output error"},
		{"another kernel", run, func(f *fakeSystem) {
			f.files[bootproto.BootSpecPath] = `{"version":1,"kernel":"5.0","modules":[{"name":"fuse","path":"/fuse.ko"}]}`
		}, "modules", 1, "modules for kernel 5.0, and this one is 6.1.0-fake"},
		{"module", run, withModule(syscall.EINVAL), "modules", 1, "load module fuse: invalid argument"},
		{"module without its file", run, withModule(fmt.Errorf("/fuse.ko: %w", errModuleFile)), "modules", 1, "load module fuse: /fuse.ko: the initrd does not hold its file"},
		{"module out of order", run, withModule(syscall.ENOENT), "modules", 1, "a symbol is missing"},
		{"module of another kernel", run, withModule(syscall.ENOEXEC), "modules", 1, "not a module of this kernel"},
		{"module with no signature", run, withModule(syscall.EKEYREJECTED), "modules", 1, "its signature is not accepted"},
		{"image mount", run, func(f *fakeSystem) {
			f.files[bootproto.BootSpecPath] = `{"version":1,"mounts":[{"source":"x","target":"/y","type":"ext4"}]}`
			f.fail["mount x"] = syscall.ENODEV
		}, "image mounts", 1, "mount /y (ext4): no such device"},
		{"no virtiofs", run, func(f *fakeSystem) { f.fail["mount tvix"] = syscall.ENODEV }, "store", 1, "this kernel has no virtiofs"},
		{"store refused", run, func(f *fakeSystem) { f.fail["mount tvix"] = syscall.EBUSY }, "store", 1, "mount the store (tag tvix): device or resource busy"},
		{"daemon gone", run, func(f *fakeSystem) { f.fail["store"] = syscall.ENOTCONN }, "store", 1, "its daemon does not answer"},
		{"no mode", "quiet", nil, "mode", 1, "none of storeboot.find, storeboot.shell, storeboot.run=PATH [ARGS], init=PATH"},
		{"no console", run + " tvix.console=hvc3", func(f *fakeSystem) { f.fail["terminal /dev/hvc3"] = syscall.ENODEV }, "console", 1, "open the console /dev/hvc3: no such device: the VMM does not offer it"},
		{"console busy", run + " tvix.console=ttyS1", func(f *fakeSystem) { f.fail["terminal /dev/ttyS1"] = syscall.EBUSY }, "console", 1, "open the console /dev/ttyS1: device or resource busy"},
		{"console cannot be raw", run + " tvix.console=ttyS1", func(f *fakeSystem) { f.fail["raw"] = syscall.EINVAL }, "console", 1, "set the console to raw mode"},
		{"console cannot be cooked", run, func(f *fakeSystem) { f.fail["cooked"] = syscall.EINVAL }, "console", 1, "set the console to line mode"},
		{"no shell", "tvix.shell", nil, "shell", 1, "this initrd has no shell: build one with mkinitrd build --template shell"},
		{"run nothing", "tvix.run", nil, "run", 1, "no program: the kernel command line has no storeboot.run=PATH"},
		{"run a relative path", "tvix.run=hello", nil, "run", 127, `program "hello": not an absolute path`},
		{"missing store path", run, func(f *fakeSystem) { f.fail["start"] = syscall.ENOENT }, "run", 127, "store path /nix/store/11111111111111111111111111111111-x is not in the store"},
		{"missing program", run, func(f *fakeSystem) { store(f); f.fail["start"] = syscall.ENOENT }, "run", 127, "program " + prog + ": no such file or directory"},
		{"missing program outside the store", "tvix.run=/bin/x", func(f *fakeSystem) { f.fail["start"] = syscall.ENOENT }, "run", 127, "program /bin/x: no such file or directory"},
		{"missing interpreter", run, func(f *fakeSystem) {
			store(f)
			f.files[prog] = "#! /nix/store/none/sh -e\n"
			f.fail["start"] = syscall.ENOENT
		}, "run", 127, "its interpreter /nix/store/none/sh is missing"},
		{"program that vanished and came back", run, func(f *fakeSystem) {
			store(f)
			f.files[prog] = "?"
			f.fail["start"] = syscall.ENOENT
		}, "run", 127, "program " + prog + ": no such file"},
		{"not executable", run, func(f *fakeSystem) { f.fail["start"] = syscall.EACCES }, "run", 126, "program " + prog + ": cannot be executed: permission denied"},
		{"no directory", run, withRun(`"dir":"/none"`), "run", 126, "working directory /none: no such file"},
		{"directory that is a file", run, withRun(`"dir":"/init"`), "run", 126, "working directory /init: not a directory"},
		{"lost program", run, func(f *fakeSystem) { f.ends = nil }, "run", 1, "wait for " + prog + ": no child processes"},
		{"find fails", "tvix.find", func(f *fakeSystem) { f.fail["list"] = errors.New("read directory /nix/store/x: input/output error") }, "find", 1, "read directory /nix/store/x: input/output error"},
		{"find cannot write", "tvix.find tvix.console=hvc0", func(f *fakeSystem) { f.fail["output"] = syscall.EIO }, "find", 1, "input/output error"},
		{"panic", run, func(f *fakeSystem) { f.panicAt = "start" }, "run", 1, "panic: boom"},
		{"panic before anything", run, func(f *fakeSystem) { f.panicAt = "mkdir /proc" }, "mounts", 1, "panic: boom"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t, tt.cmdline)
			if tt.change != nil {
				tt.change(f)
			}
			r := f.boot()
			if r.Outcome != bootproto.OutcomeFailed || r.Step != tt.step || r.Status != tt.status || !strings.Contains(r.Message, tt.message) {
				t.Errorf("report %+v\nwant step %s, status %d, message %q", r, tt.step, tt.status, tt.message)
			}
			if n := len(r.Steps); n == 0 || r.Steps[n-1].Name != tt.step {
				t.Errorf("steps %v", r.Steps)
			}
			if len(f.made("end processes")) != 1 {
				t.Error("processes were not ended")
			}
			if f.log.Len() > 0 && !strings.Contains(f.log.String(), "<3>storeboot: "+tt.step+": ") {
				t.Errorf("kernel log %q", f.log.String())
			}
		})
	}
}

func withModule(err error) func(*fakeSystem) {
	return func(f *fakeSystem) {
		f.files[bootproto.BootSpecPath] = `{"version":1,"modules":[{"name":"fuse","path":"/fuse.ko"}]}`
		f.fail["module /fuse.ko"] = err
	}
}

func withRun(member string) func(*fakeSystem) {
	return func(f *fakeSystem) {
		f.files[bootproto.RunSpecPath] = `{"version":1,"argv":["/bin/x"],` + member + `}`
	}
}

// TestHarmless holds what does not stop a boot.
func TestHarmless(t *testing.T) {
	tests := []struct {
		name   string
		change func(*fakeSystem)
	}{
		{"module is loaded already", withModule(syscall.EEXIST)},
		{"no read-ahead", func(f *fakeSystem) { f.fail["write /sys"] = syscall.ENOENT }},
		{"no printk", func(f *fakeSystem) { delete(f.files, printkLevels) }},
		{"quiet already", func(f *fakeSystem) { f.files[printkLevels] = "1 4 1 7"; f.fail["write /proc"] = syscall.EIO }},
		{"cannot be quiet", func(f *fakeSystem) { f.fail["write /proc"] = syscall.EACCES }},
		{"no active console", func(f *fakeSystem) { delete(f.files, "/sys/class/tty/console/active") }},
		{"console has no device", func(f *fakeSystem) { f.fail["terminal /dev/ttyS0"] = syscall.ENODEV }},
		{"no job control", func(f *fakeSystem) { f.fail["control"] = syscall.EPERM }},
		{"console that cannot drain", func(f *fakeSystem) { f.fail["restore"] = syscall.EIO }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t, "tvix.run=/bin/x")
			tt.change(f)
			if r := f.boot(); r.Outcome != bootproto.OutcomeExited || len(f.made("start /bin/x")) != 1 {
				t.Errorf("report %+v; calls %q", r, f.calls)
			}
		})
	}
}

// TestReportChannels holds that the console gets the report exactly when the
// daemon does not take it, on a line of its own.
func TestReportChannels(t *testing.T) {
	f := newFake(t, "tvix.run=/bin/x tvix.console=hvc0")
	f.boot()
	if f.terminal.out.Len() > 0 || len(f.reports) != 1 {
		t.Errorf("console %q, %d reports", f.terminal.out.String(), len(f.reports))
	}
	f = newFake(t, "tvix.run=/bin/x tvix.console=hvc0")
	f.noReport = true
	f.ends[1].status = ExitStatus{Signal: 9}
	r := f.boot()
	if r.ExitStatus() != 128+9 || r.Outcome != bootproto.OutcomeSignaled {
		t.Errorf("report %+v", r)
	}
	if s := f.terminal.out.String(); !strings.HasPrefix(s, "\n"+bootproto.ReportMark+"{") || strings.Count(s, "\n") != 2 {
		t.Errorf("console %q", s)
	}
	if got := f.made("restore", "terminal", "output", "drain", "power"); !slices.Equal(got, []string{"terminal /dev/hvc0", "drain output", "restore", "terminal /dev/console", "output", "drain", "power off"}) {
		t.Errorf("calls %q", got)
	}
	// With no channel at all there is still the kernel log, and an end.
	for _, broken := range []string{"terminal /dev/console", "output"} {
		f = newFake(t, "tvix.fnid")
		f.fail[broken] = syscall.EIO
		Run(f)
		if log := f.log.String(); !strings.Contains(log, "<3>storeboot: parameters: ") || !strings.Contains(log, "/dev/console") {
			t.Errorf("log %q", log)
		}
		if f.calls[len(f.calls)-1] != "power off" {
			t.Error("the machine is still on")
		}
	}
	// A panic in the end itself still powers off.
	f = newFake(t, "tvix.run=/bin/x")
	f.panicAt = "end processes"
	Run(f)
	if f.calls[len(f.calls)-1] != "power off" {
		t.Error("the machine is still on")
	}
}

// TestReportFits holds that no message makes a report too long.
func TestReportFits(t *testing.T) {
	for _, c := range []string{"\x01", "\"", "\xff", "ü", "<", "\u2028"} {
		b := &boot{sys: newFake(t, "")}
		for range 100 {
			b.times = append(b.times, bootproto.StepTime{Name: "image mounts", Start: 1 << 50, Took: 1 << 50})
		}
		data := b.encode(b.failed("step", errors.New(strings.Repeat(c, 1<<20))))
		if _, err := bootproto.ParseReport(data); err != nil {
			t.Errorf("%q: %d bytes: %v", c, len(data), err)
		}
	}
}

// TestStoreWait holds which tags are tried, and for how long.
func TestStoreWait(t *testing.T) {
	device := func(f *fakeSystem, n int) {
		for i := range n {
			f.files[fmt.Sprintf("/sys/bus/virtio/drivers/virtiofs/virtio%d/device", i)] = virtioFS + "\n"
			f.files[fmt.Sprintf("/sys/bus/virtio/devices/virtio%d", i)] = ""
		}
	}
	tests := []struct {
		name, cmdline, tag string
		change             func(*fakeSystem)
		waited             time.Duration // at least, and at most two polls more
		message            string        // "" if it is mounted
	}{
		{"first", "", "tvix", nil, 0, ""},
		{"second", "", "snix", nil, 0, ""},
		{"named", "snix.tag=my", "my", nil, 0, ""},
		{"late", "", "tvix", func(f *fakeSystem) { f.tagAt = 3 * time.Second }, 3 * time.Second, ""},
		{"never, no device", "", "", func(f *fakeSystem) { f.files["/sys/bus/virtio/devices/virtio0"] = "" }, deviceWait, "no virtio-fs device with tag tvix or snix (the machine has none"},
		{"never, no virtio", "", "", nil, deviceWait, "no virtio device at all"},
		{"other tag", "tvix.tag=mine", "tvix", func(f *fakeSystem) { device(f, 1) }, tagWait, "tag mine (the machine has one, with another tag)"},
		{"other tags", "tvix.tag=mine", "tvix", func(f *fakeSystem) { device(f, 2) }, tagWait, "tag mine (the machine has 2, with other tags)"},
		{"tags that the kernel names", "tvix.tag=mine", "tvix", func(f *fakeSystem) {
			device(f, 2)
			f.files["/sys/fs/virtiofs/1/tag"] = "tvix\n"
			f.files["/sys/fs/virtiofs/2/tag"] = "data\n"
		}, tagWait, "tag mine (the machine has tvix, data)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t, "tvix.find "+tt.cmdline)
			f.tag = tt.tag
			if tt.change != nil {
				tt.change(f)
			}
			r := f.boot()
			if tt.message == "" && r.Outcome != bootproto.OutcomeExited || !strings.Contains(r.Message, tt.message) {
				t.Errorf("report %+v, want %q", r, tt.message)
			}
			if f.now < tt.waited || f.now > tt.waited+2*devicePause {
				t.Errorf("waited %v, want %v", f.now, tt.waited)
			}
		})
	}
}

// TestConsoleWait holds that a console may come late.
func TestConsoleWait(t *testing.T) {
	f := newFake(t, "tvix.run=/bin/x tvix.console=vport0p1")
	tries := 0
	err := (&boot{sys: f}).waitFor(deviceWait, func() (bool, error) {
		if tries++; tries < 10 {
			return true, syscall.ENOENT
		}
		return false, nil
	})
	if err != nil || tries != 10 || f.now != 9*devicePause {
		t.Errorf("%v after %d tries and %v", err, tries, f.now)
	}
}

// TestShares holds that shares are mounted, also those that appear late, and
// that the agent is started beside the program.
func TestShares(t *testing.T) {
	f := newFake(t, "storeboot.run")
	f.files[bootproto.RunSpecPath] = `{"version":1,"argv":["/p"],"agent":"vsock","mounts":[{"source":"home","target":"/mnt/home","type":"virtiofs","options":"ro"}]}`
	if r := f.boot(); r.Outcome != bootproto.OutcomeExited {
		t.Errorf("report %+v", r)
	}
	calls := strings.Join(f.calls, "\n")
	for _, want := range []string{"mount home /mnt/home virtiofs", "agent vsock"} {
		if !strings.Contains(calls, want) {
			t.Errorf("no %q in\n%s", want, calls)
		}
	}
}
