package bootproto

import (
	"errors"
	"fmt"
)

// EventKind names an event of the store daemon.
type EventKind string

const (
	// EventReady: the daemon listens and its store is open.
	EventReady EventKind = "ready"
	// EventConnected: a VMM has connected.
	EventConnected EventKind = "connected"
	// EventMounted: a guest has mounted the file system (FUSE_INIT).
	EventMounted EventKind = "mounted"
	// EventReport: the guest sent an exit report, in Report.
	EventReport EventKind = "report"
	// EventDisconnected: the VMM has gone.
	EventDisconnected EventKind = "disconnected"
)

// Event is one line of JSON that the store daemon writes to the descriptor
// given by --event-fd. Connection counts from 1 and tells apart the events of
// several VMs.
type Event struct {
	Kind       EventKind `json:"event"`
	UnixMicros int64     `json:"time_us"`
	Connection int       `json:"connection,omitempty"`
	Report     *Report   `json:"report,omitempty"`
	// Requests are what the VM asked of the store, by opcode, in an
	// [EventDisconnected] of a daemon that serves one VM.
	Requests []StoreRequests `json:"requests,omitempty"`
	// ReadBytes are contents of files that went to the VM, likewise.
	ReadBytes uint64 `json:"read_bytes,omitempty"`
}

// StoreRequests counts the requests of one FUSE opcode.
type StoreRequests struct {
	// Opcode is Linux's name without FUSE_, or a number.
	Opcode string `json:"opcode"`
	Count  uint64 `json:"count"`
	Errors uint64 `json:"errors"` // answered with one; names that do not exist are none
	// Micros is the time from taking a request to its answer, of all together, in
	// microseconds.
	Micros uint64 `json:"time_us"`
}

// ParseEvent parses one line. An [EventReport] has a sound Report.
func ParseEvent(line []byte) (*Event, error) {
	e := new(Event)
	if err := strict(line, e); err != nil {
		return nil, fmt.Errorf("store daemon event: %w", err)
	}
	if e.Kind == EventReport && e.Report == nil {
		return nil, errors.New("store daemon event: an exit report is missing")
	}
	if e.Report != nil {
		if err := e.Report.Check(); err != nil {
			return nil, fmt.Errorf("store daemon event: exit report: %w", err)
		}
	}
	return e, nil
}
