package vhostuser

import (
	"sync/atomic"
	"time"
)

const (
	// monitorTick is how often the monitor looks. A request that is in hand at
	// two looks, so for at least one tick and at most two, is one that blocks.
	monitorTick = 2 * time.Millisecond
	// monitorIdle is after how many looks without a request it sleeps.
	monitorIdle = 10
)

// monitor finds requests that take long without having said that they would,
// and takes their queues' loops on (loop.give). It costs a request two loads
// and stores; while no queue has requests it sleeps.
//
// It sleeps after it has set asleep and then found all loops not busy; a worker
// makes its loop busy and then looks at asleep. So one of the two sees the other.
type monitor struct {
	loops  atomic.Pointer[[]*loop] // those that run
	asleep atomic.Bool
	wake   chan struct{} // holds one
	stop   chan struct{}
	ended  chan struct{}
}

func (m *monitor) start() {
	m.wake, m.stop, m.ended = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	m.loops.Store(new([]*loop))
	go m.run()
}

// close ends the monitor and waits until it has.
func (m *monitor) close() {
	close(m.stop)
	<-m.ended
}

func (m *monitor) rouse() {
	if m.asleep.CompareAndSwap(true, false) {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

func (m *monitor) run() {
	defer close(m.ended)
	ticker := time.NewTicker(monitorTick)
	defer ticker.Stop()
	for idle := 0; ; {
		select {
		case <-m.stop:
			return
		case <-ticker.C:
		}
		if m.look() {
			idle = 0
			continue
		}
		if idle++; idle < monitorIdle {
			continue
		}
		m.asleep.Store(true)
		if m.busy() {
			m.asleep.Store(false)
			continue
		}
		ticker.Stop()
		select {
		case <-m.stop:
			return
		case <-m.wake:
		}
		idle = 0
		ticker.Reset(monitorTick)
	}
}

// look gives on the loops whose request is that of the last look, and says
// whether any has one.
func (m *monitor) look() (busy bool) {
	for _, l := range *m.loops.Load() {
		n := l.busy.Load()
		if n != 0 {
			busy = true
			if n == l.seen {
				l.give(n)
			}
		}
		l.seen = n
	}
	return busy
}

func (m *monitor) busy() bool {
	for _, l := range *m.loops.Load() {
		if l.busy.Load() != 0 {
			return true
		}
	}
	return false
}
