package boot

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"storeboot/internal/bootproto"
)

// Step is one named part of a plan. Its name and time are in the report.
type Step struct {
	Name string
	run  func(*boot) error
}

// preparation is what every boot begins with; after it the mode is known.
func preparation() []Step {
	return []Step{
		{"mounts", (*boot).mountSpecial},
		{"parameters", (*boot).readParameters},
		{"modules", (*boot).loadModules},
		{"image mounts", (*boot).mountExtra},
		{"hooks before the store", (*boot).hooksBeforeStore},
		{"store", (*boot).mountStore},
		{"shares", (*boot).mountShares},
		{"hooks after the store", (*boot).hooksAfterStore},
	}
}

// work is what follows the preparation in the given mode.
func work(mode bootproto.Mode) []Step {
	switch mode {
	case bootproto.ModeFind:
		return []Step{{"console", (*boot).openConsole}, {"find", (*boot).find}}
	case bootproto.ModeShell:
		return []Step{{"console", (*boot).openConsole}, {"shell", (*boot).shell}}
	case bootproto.ModeRun:
		return []Step{{"console", (*boot).openConsole}, {"run", (*boot).runProgram}}
	case bootproto.ModeInit:
		return []Step{{"root", (*boot).makeRoot}, {"activation", (*boot).activate}, {"init", (*boot).handOver}}
	}
	return []Step{{"mode", (*boot).noMode}}
}

// Plan lists the steps of a boot in the given mode, in order.
func Plan(mode bootproto.Mode) []Step { return append(preparation(), work(mode)...) }

// boot is the state of one boot; one goroutine uses it.
type boot struct {
	sys   System
	log   kernelLog
	times []bootproto.StepTime

	params bootproto.Params
	mode   bootproto.Mode
	spec   bootproto.BootSpec
	run    *bootproto.RunSpec // nil if the initrd has none

	available *available // nil if the image has none

	store   Store    // nil until it is open
	console Terminal // nil until it is open
	// outcome is what the mode's step leaves; the zero Report is success.
	outcome bootproto.Report
	// system is what makeRoot found to hand over to.
	system *newSystem
	// When this boot began: the time of day, and since the kernel's start.
	startedAt    time.Time
	startedAfter time.Duration
}

// failure is an error that ends the guest with an exit status of its own.
type failure struct {
	status int
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// Run boots sys to its end, which is PowerOff.
func Run(sys System) {
	b := &boot{sys: sys, startedAt: sys.Now(), startedAfter: sys.Elapsed()}
	defer func() {
		// work has reported a panic of its own; one in the end itself must not
		// keep the machine on.
		_ = recover()
		sys.PowerOff()
	}()
	r := b.work()
	if r.Outcome == bootproto.OutcomeFailed {
		b.afterFailure(r)
	}
	b.end(r)
	if r.Outcome == bootproto.OutcomeFailed && b.params.OnFail == bootproto.OnFailReboot {
		sys.Restart()
	}
}

// work runs the steps and returns the report of how that went. A panic is a
// failure of the step it is in.
func (b *boot) work() (r bootproto.Report) {
	step := ""
	defer func() {
		if p := recover(); p != nil {
			r = b.failed(step, fmt.Errorf("panic: %v: %s", p, debug.Stack()))
		}
	}()
	steps := preparation()
	for i := 0; i < len(steps); i++ {
		step = steps[i].Name
		if err := b.pause(step); err != nil {
			return b.failed(step, err)
		}
		began := b.sys.Elapsed()
		b.times = append(b.times, bootproto.StepTime{Name: step, Start: began.Microseconds()})
		err := steps[i].run(b)
		took := b.sys.Elapsed() - began
		b.times[i].Took = took.Microseconds()
		if err == nil {
			err = b.stopped()
		}
		if err != nil {
			return b.failed(step, err)
		}
		b.log.debug("step " + step + " took " + millis(took) + " ms")
		if i+1 == len(preparation()) {
			steps = Plan(b.mode)
			if b.mode != bootproto.ModeInit {
				b.sys.WatchPowerButton()
			}
		}
	}
	return b.outcome
}

// millis is d in milliseconds, with three digits of them.
func millis(d time.Duration) string {
	us := d.Microseconds()
	part := strconv.FormatInt(1000+us%1000, 10)
	return strconv.FormatInt(us/1000, 10) + "." + part[1:]
}

// maxReason bounds the message of a report, so that the whole of it always
// fits into [bootproto.MaxReport] even if JSON escapes every byte of it.
const maxReason = 2000

// failed is the report of a step that failed with err.
func (b *boot) failed(step string, err error) bootproto.Report {
	r := bootproto.Report{Outcome: bootproto.OutcomeFailed, Status: 1, Step: step, Message: printable(err.Error(), maxReason)}
	var f *failure
	if errors.As(err, &f) {
		r.Status = f.status
	}
	return r
}

// end leaves nothing but to power off: no process is left, nothing written is
// lost, and the report is the last word.
func (b *boot) end(r bootproto.Report) {
	b.sys.EndProcesses()
	b.sys.DrainOutput(outputLimit)
	if b.console != nil {
		if err := b.console.Restore(); err != nil {
			b.log.warning("drain the console: " + err.Error())
		}
	}
	b.sendReport(r)
}

// outputLimit is how long the end waits until a port has taken what programs
// have written: a pipe's worth at most, but its reader may be slow.
const outputLimit = time.Minute

// readParameters reads the kernel command line and the specifications of the
// initramfs, and settles the mode.
func (b *boot) readParameters() error {
	line, err := b.sys.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("read the kernel command line: %w", err)
	}
	b.params, err = bootproto.ParseCommandLine(strings.TrimSuffix(string(line), "\n"))
	if err != nil {
		return err
	}
	if err := b.readSpecs(); err != nil {
		return err
	}
	b.mode = b.params.Mode
	if b.mode == bootproto.ModeNone {
		b.mode = b.spec.Mode
	}
	if b.params.Debug {
		b.loud()
	}
	return b.checkBreakpoints()
}

// readSpecs reads what of the specifications there is.
func (b *boot) readSpecs() error {
	b.spec = bootproto.BootSpec{Version: bootproto.SpecVersion}
	data, err := b.readOptional(bootproto.BootSpecPath)
	if err != nil {
		return err
	}
	if data != nil {
		spec, err := bootproto.ParseBootSpec(data)
		if err != nil {
			return fmt.Errorf("%s: %w", bootproto.BootSpecPath, err)
		}
		b.spec = *spec
	}
	data, err = b.readOptional(bootproto.RunSpecPath)
	if err != nil || data == nil {
		return err
	}
	if b.run, err = bootproto.ParseRunSpec(data); err != nil {
		return fmt.Errorf("%s: %w", bootproto.RunSpecPath, err)
	}
	return nil
}

// readOptional returns nil without an error if there is no such file.
func (b *boot) readOptional(path string) ([]byte, error) {
	data, err := b.sys.ReadFile(path)
	switch {
	case isMissing(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", path, err)
	case data == nil:
		return []byte{}, nil
	}
	return data, nil
}

// noMode is the step of a boot that was given nothing to do.
func (b *boot) noMode() error {
	var modes []string
	for _, p := range bootproto.Parameters() {
		switch p.Name {
		case "find", "shell":
			modes = append(modes, bootproto.Prefixes()[0]+p.Name)
		case "run":
			modes = append(modes, bootproto.Prefixes()[0]+p.Name+"="+p.Value)
		case "init":
			modes = append(modes, p.Name+"="+p.Value)
		}
	}
	return fmt.Errorf("nothing to do: the kernel command line has none of %s", strings.Join(modes, ", "))
}

// waitFor calls try until it succeeds, fails for good, or limit is over: again
// whenever something happens to a device.
func (b *boot) waitFor(limit time.Duration, try func() (again bool, err error)) error {
	for began := b.sys.Elapsed(); ; b.waitDevice() {
		again, err := try()
		if err == nil || !again || b.sys.Elapsed()-began >= limit {
			return err
		}
		if err := b.stopped(); err != nil {
			return err
		}
	}
}
