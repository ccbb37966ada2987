package boot

import (
	"errors"
	"syscall"

	"storeboot/internal/bootproto"
)

// kernelConsole is where the report goes that the store daemon cannot take.
const kernelConsole = "/dev/console"

// sendReport sends r, with the steps so far, to the store daemon; where it
// does not take it, or the store is not mounted, as a marked line to the
// kernel's console.
func (b *boot) sendReport(r bootproto.Report) {
	data := b.encode(r)
	if b.store != nil {
		err := b.store.Report(data)
		if err == nil {
			return
		}
		b.log.info("the store daemon takes no report (" + err.Error() + "): it follows on the console")
	}
	t, err := b.sys.OpenTerminal(kernelConsole)
	if err != nil {
		b.log.error("open " + kernelConsole + " for the report: " + err.Error())
		return
	}
	// A new line first: whatever stands on the console, the mark begins a line.
	line := append([]byte("\n"+bootproto.ReportMark), data...)
	if _, err := t.Write(append(line, '\n')); err != nil {
		b.log.error("write the report to " + kernelConsole + ": " + err.Error())
		return
	}
	_ = t.Drain()
}

// encode returns the JSON of r, at most [bootproto.MaxReport] bytes.
func (b *boot) encode(r bootproto.Report) []byte {
	r.Version = bootproto.SpecVersion
	r.Steps = b.times
	if r.Outcome == "" {
		r.Outcome = bootproto.OutcomeExited
	}
	data, err := r.Encode()
	if err != nil {
		r.Steps = nil
		r.Message = printable(r.Message, maxReason/2)
		data, _ = r.Encode()
	}
	return data
}

// isMissing holds for the errors of a path that does not exist.
func isMissing(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR)
}
