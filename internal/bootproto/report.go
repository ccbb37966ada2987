package bootproto

import (
	"fmt"
	"io"
)

// The exit report travels by a FUSE ioctl on the root directory of the store
// mount. Its command number is _IOW(IoctlType, IoctlReport, char[n]) with n
// the length of the JSON, so the kernel itself copies the JSON into the
// request. Such an ioctl works on a read-only mount of a stock kernel and
// needs no device but the store.
const (
	IoctlType   = 0x73 // 's'
	IoctlReport = 0x01
	// MaxReport is the longest report in bytes: the size field of an ioctl
	// number has 14 bits.
	MaxReport = 1<<14 - 1
)

// IoctlCommand is the command number for a report of n bytes, on
// architectures with the generic ioctl encoding (x86, arm64, riscv).
func IoctlCommand(n int) uint32 {
	const write = 1
	return write<<30 | uint32(n)<<16 | IoctlType<<8 | IoctlReport
}

// IsIoctlReport says whether cmd is an [IoctlCommand] of any length.
func IsIoctlReport(cmd uint32) bool {
	return cmd>>30 == 1 && cmd&0xffff == IoctlType<<8|IoctlReport
}

// ReportMark begins the line on the kernel console that carries the report
// where the store daemon cannot take it. The JSON follows on the same line.
const ReportMark = "storeboot-exit-report: "

// Outcome says how the guest's work ended.
type Outcome string

const (
	// OutcomeExited: the program ended by itself with Status.
	OutcomeExited Outcome = "exited"
	// OutcomeSignaled: Signal ended the program.
	OutcomeSignaled Outcome = "signaled"
	// OutcomeFailed: init could not do its work: Step and Message say what,
	// Status is the exit status to return (126 and 127 as shells use them).
	OutcomeFailed Outcome = "failed"
	// OutcomeHandover: init is about to execute the system's init; what becomes
	// of the VM from here on is that system's business.
	OutcomeHandover Outcome = "handover"
)

// Report is the exit report. A later one of the same VM replaces an earlier.
type Report struct {
	Version int     `json:"version"`
	Outcome Outcome `json:"outcome"`
	Status  int     `json:"status,omitempty"`
	Signal  int     `json:"signal,omitempty"`
	Step    string  `json:"step,omitempty"`
	Message string  `json:"message,omitempty"`
	// Steps are the steps of the boot plan that init went through.
	Steps []StepTime `json:"steps,omitempty"`
}

// StepTime is when a step began and how long it took, in microseconds of the
// guest's monotonic clock (since the kernel started).
type StepTime struct {
	Name  string `json:"name"`
	Start int64  `json:"start_us"`
	Took  int64  `json:"took_us"`
}

// ParseReport parses and checks data, which comes from the guest and is not
// trusted: trailing NUL bytes are allowed, unknown keys are errors.
func ParseReport(data []byte) (*Report, error) {
	for len(data) > 0 && data[len(data)-1] == 0 {
		data = data[:len(data)-1]
	}
	if len(data) > MaxReport {
		return nil, fmt.Errorf("exit report: %d bytes, at most %d are possible", len(data), MaxReport)
	}
	r := new(Report)
	if len(data) == 0 {
		return nil, fmt.Errorf("exit report: %w", io.ErrUnexpectedEOF)
	}
	if err := strict(data, r); err != nil {
		return nil, fmt.Errorf("exit report: %w", err)
	}
	if err := r.Check(); err != nil {
		return nil, fmt.Errorf("exit report: %w", err)
	}
	return r, nil
}

// Check says whether r is sound.
func (r *Report) Check() error {
	if err := checkVersion(r.Version); err != nil {
		return err
	}
	if r.Status < 0 || r.Status > 255 {
		return fmt.Errorf("status %d: want 0 to 255", r.Status)
	}
	switch r.Outcome {
	case OutcomeExited, OutcomeHandover:
	case OutcomeSignaled:
		if r.Signal < 1 || r.Signal > 64 {
			return fmt.Errorf("signal %d: want 1 to 64", r.Signal)
		}
	case OutcomeFailed:
		if r.Message == "" {
			return fmt.Errorf("outcome %s without a message", r.Outcome)
		}
	default:
		return fmt.Errorf("unknown outcome %q", r.Outcome)
	}
	return nil
}

// ExitStatus is the status that a shell would give the outcome: the
// program's own, 128 plus the signal, or for a failure its status or 1.
func (r *Report) ExitStatus() int {
	switch r.Outcome {
	case OutcomeSignaled:
		return 128 + r.Signal
	case OutcomeFailed:
		if r.Status == 0 {
			return 1
		}
	}
	return r.Status
}
