package vhostuser

import "time"

// Device is what a back end serves.
type Device struct {
	Queues int // 1 to [MaxQueues]
	Handle Handler
	// DrainLimit is how long a queue that has to stop waits for requests that
	// block, before it cancels them: a VMM waits for the stop. 0 is 3 seconds.
	DrainLimit time.Duration
	// SaveState and LoadState are the device's own state for snapshots and
	// migration, of up to 32 KiB; what the queues have is the VMM's to keep. Both
	// or none; they are called while no queue runs, on goroutines of their own.
	SaveState func() ([]byte, error)
	LoadState func([]byte) error
}

func (d *Device) drainLimit() time.Duration {
	if d.DrainLimit == 0 {
		return 3 * time.Second
	}
	return d.DrainLimit
}
