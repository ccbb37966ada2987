package session

import (
	"fmt"
	"time"

	"storeboot/internal/bootproto"
	"storeboot/launcher/timeline"
)

// timeline is where the time went. The guest's clock begins with its kernel; it
// is set against ours by the mount of the store, which both see: the daemon's
// event comes within the step of that name.
func (r *runner) timeline(res *Result) *timeline.Timeline {
	us := func(t time.Time) int64 { return max(t.Sub(r.started).Microseconds(), 0) }
	m := &r.files.Machine
	out := &timeline.Timeline{
		Version: timeline.Version,
		What:    fmt.Sprintf("%s, %s, %s, %d CPUs, %s", r.State.Kernel, r.Hypervisor.Name(), m.Accel, m.CPUs, m.Memory),
		Total:   us(r.times.ended),
	}
	out.Requests, out.ReadBytes = r.daemon.requests()
	span := func(part, name string, from, to int64) {
		if from >= 0 && to >= from {
			out.Spans = append(out.Spans, timeline.Span{Part: part, Name: name, Start: from, End: to})
		}
	}
	events := map[bootproto.EventKind]int64{}
	r.times.mu.Lock()
	for _, e := range r.times.events {
		events[e.kind] = us(e.at)
	}
	output := r.times.output
	r.times.mu.Unlock()
	vmm := us(r.times.vmm)
	span("launcher", "initrd", 0, us(r.times.initrd))
	if at, ok := events[bootproto.EventReady]; ok {
		span("store daemon", "start", 0, at)
	}
	mounted, isMounted := events[bootproto.EventMounted]
	if res.Report == nil || !isMounted {
		span("VM", "whole", vmm, out.Total)
		return out
	}
	var began int64 = -1 // the guest's kernel, by our clock
	for _, s := range res.Report.Steps {
		if s.Name == "store" {
			began = max(mounted-s.Start, vmm)
		}
	}
	if began < 0 {
		span("VM", "whole", vmm, out.Total)
		return out
	}
	span("VMM", "start, firmware", vmm, began)
	end := began
	for i, s := range res.Report.Steps {
		if i == 0 {
			span("kernel", "to init", began, began+s.Start)
		}
		span("init", printable(s.Name), began+s.Start, min(began+s.Start+s.Took, out.Total))
		end = began + s.Start + s.Took
	}
	span("VM", "power-off, clean-up", min(end, out.Total), out.Total)
	for _, e := range []struct {
		kind bootproto.EventKind
		name string
	}{{bootproto.EventConnected, "VMM connects to the store"}, {bootproto.EventMounted, "store mounted"}, {bootproto.EventReport, "exit report"}} {
		if at, ok := events[e.kind]; ok {
			out.Marks = append(out.Marks, timeline.Mark{Name: e.name, At: at})
		}
	}
	if !output.IsZero() {
		out.Marks = append(out.Marks, timeline.Mark{Name: "program's first output", At: us(output)})
	}
	return out
}

// firstOutput notes when the program's first byte came.
type firstOutput struct{ r *runner }

func (f firstOutput) Write(p []byte) (int, error) {
	t := &f.r.times
	t.mu.Lock()
	if t.output.IsZero() {
		t.output = time.Now()
	}
	t.mu.Unlock()
	return f.r.ProgramOut.Write(p)
}
