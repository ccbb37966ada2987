package session

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"storeboot/internal/bootproto"
	"storeboot/launcher/timeline"
	"storeboot/launcher/vmm"
)

// Result is how a guest fared.
type Result struct {
	// Report is the guest's own, by the store daemon or else by the kernel
	// console; nil if there was none.
	Report *bootproto.Report
	End    vmm.End
	VMM    string // its name
	// VMMFailure says how the monitor's process failed, "" if it did not.
	VMMFailure string
	Panic      string // the kernel's words, "" if it did not panic
	Restarting bool   // the guest's kernel was told to restart
	LastLine   string // of the kernel console
	// Console are its last lines, if the guest did not say how it ended.
	Console []string
	// Timeline is where the time went.
	Timeline *timeline.Timeline
}

// Status is the exit status that tells how the guest's work ended, with a
// message if it did not end by itself: the program's own status; for a system,
// which only hands over, 0 after an orderly power-off or restart. Without a
// report it is 1.
func (r *Result) Status() (int, error) {
	if r.Report != nil && r.Report.Outcome != bootproto.OutcomeHandover {
		var err error
		if r.Report.Outcome == bootproto.OutcomeFailed {
			err = errors.New(printable(r.Report.Message))
		}
		return r.Report.ExitStatus(), err
	}
	switch {
	case r.Panic != "":
		return 1, fmt.Errorf("kernel panic: %s", r.Panic)
	case r.End == vmm.EndPanic:
		return 1, errors.New("kernel panic" + r.lastWords())
	case r.VMMFailure != "":
		return 1, fmt.Errorf("%s %s", r.VMM, r.VMMFailure)
	case r.End == vmm.EndStopped:
		return 1, fmt.Errorf("%s was told to end, not by the guest", r.VMM)
	case r.Report != nil && (r.End == vmm.EndPowerOff || r.End == vmm.EndReset && r.Restarting):
		return 0, nil
	case r.End == vmm.EndReset:
		return 1, errors.New("the guest was reset without a word" + r.lastWords())
	case r.Report != nil:
		return 1, errors.New("the system ended without powering off" + r.lastWords())
	}
	return 1, errors.New("the guest ended without an exit report" + r.lastWords())
}

func (r *Result) lastWords() string {
	if r.LastLine == "" {
		return "; its kernel console is empty"
	}
	return "; the last line on its kernel console: " + r.LastLine
}

// times is when things happened.
type times struct {
	began, initrd, vmm, ended time.Time
	// output is when the program's first byte came, zero if none did.
	output time.Time

	mu     sync.Mutex
	events []timedEvent
}

type timedEvent struct {
	kind bootproto.EventKind
	at   time.Time
}

func (t *times) event(kind bootproto.EventKind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, timedEvent{kind, time.Now()})
}

// logTimes tells how long everything took.
func (r *runner) logTimes(res *Result) {
	ms := func(t time.Time) string { return t.Sub(r.started).Round(time.Millisecond).String() }
	attrs := []any{"initrd", ms(r.times.initrd), "vmm_start", ms(r.times.vmm)}
	r.times.mu.Lock()
	for _, e := range r.times.events {
		attrs = append(attrs, "store_"+string(e.kind), ms(e.at))
	}
	r.times.mu.Unlock()
	r.Log.Info("times since the session's start", append(attrs, "end", ms(r.times.ended))...)
	if res == nil || res.Report == nil {
		return
	}
	var steps []any
	for _, s := range res.Report.Steps {
		steps = append(steps, slog.String(printable(s.Name), fmt.Sprintf("%v+%v", time.Duration(s.Start)*time.Microsecond, time.Duration(s.Took)*time.Microsecond)))
	}
	if len(steps) > 0 {
		r.Log.Info("guest's steps, start+duration since its kernel's start", steps...)
	}
}
