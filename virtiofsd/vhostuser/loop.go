package vhostuser

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/virtqueue"
)

const (
	// publishEvery is after how many answers the guest is told of them, if more
	// requests are waiting: it works on the first while we work on the rest.
	publishEvery = 32
	// batchSize bounds the requests between two looks at whether to stop, so that
	// a guest that never stops asking cannot keep a queue from being stopped.
	batchSize = 4 * publishEvery
)

// How a loop ends.
const (
	goOn      int32 = iota
	stopNow         // after the request in hand; late ones go on
	stopEmpty       // no new requests; when the last one is answered
	// stopGone is like stopNow, and what is not answered yet never is: the front
	// end has gone, or we are about to. The record of requests in flight keeps
	// it for the back end that comes next.
	stopGone
)

// loop takes requests from a running queue and answers them. It is held by one
// worker at a time, who alone touches the queue and so the used ring. The
// worker calls the handler itself; if that blocks, the loop is given to another
// worker, and the first hands in its answer when it has it (see late).
type loop struct {
	backend *Backend
	vring   *vring
	ctx     context.Context // of its requests
	queue   *virtqueue.Queue
	table   *table
	poll    *poller
	call    int
	logged  int // eventfd to write to when the dirty log has something new, -1 for none
	stop    atomic.Int32
	ended   chan struct{} // closed when no worker holds the loop any more

	number uint64 // the holder's: of the last request
	// busy is the number of the request that the holder's handler is at, 0 if
	// none. Whoever changes it from a number to 0 has the loop: the holder,
	// or who gives the loop to another worker.
	busy   atomic.Uint64
	holder atomic.Pointer[worker]
	seen   uint64 // the monitor's: busy when it looked last
}

// worker is what a goroutine that handles requests has to itself.
type worker struct {
	loop    *loop
	chain   virtqueue.Chain
	req     Request
	number  uint64 // of the request whose handler is running, 0 for none
	written int
	failed  bool // the handler faulted: there is no answer
	locked  bool // to its thread
}

func (b *Backend) newWorker(l *loop) *worker {
	b.freeMu.Lock()
	var w *worker
	if n := len(b.free); n > 0 {
		w, b.free = b.free[n-1], b.free[:n-1]
	}
	b.freeMu.Unlock()
	if w == nil {
		w = new(worker)
		w.req.blocks = w.blocks
	}
	w.loop, w.failed = l, false
	w.req.Queue, w.req.ctx = l.vring.index, l.ctx
	return w
}

// freeWorkers is how many workers without work a connection keeps.
const freeWorkers = 8

func (b *Backend) freeWorker(w *worker) {
	const mostParts = 1024
	if cap(w.chain.Readable) > mostParts || cap(w.chain.Writable) > mostParts {
		w.chain = virtqueue.Chain{}
	}
	w.loop = nil
	b.freeMu.Lock()
	defer b.freeMu.Unlock()
	if len(b.free) < freeWorkers {
		b.free = append(b.free, w)
	}
}

// hold runs the loop until it ends or w has lost it.
func (l *loop) hold(w *worker) {
	defer l.backend.workers.Done()
	lost := false
	err := guard(func() (err error) {
		lost, err = l.run(w)
		return err
	})
	if w.locked {
		runtime.UnlockOSThread()
		w.locked = false
	}
	if err != nil {
		l.backend.queueFailed(fmt.Errorf("queue %d: %w", l.vring.index, err))
		if w.number != 0 && !l.busy.CompareAndSwap(w.number, 0) {
			lost, w.failed = true, true
		}
		w.number = 0
	}
	if lost { // w is the new holder's from here on
		l.vring.late.finish(w)
		return
	}
	l.backend.freeWorker(w)
	close(l.ended)
}

// run has a thread of its own: it sleeps in the kernel, and wakes without the
// scheduler's help. It reports whether w lost the loop.
func (l *loop) run(w *worker) (lost bool, err error) {
	runtime.LockOSThread()
	w.locked = true
	if err := l.publish(); err != nil { // what the holder before had ready
		return false, err
	}
	for {
		l.queue.DisableNotify()
		if lost, err := l.batch(w); lost || err != nil {
			return lost, err
		}
		switch l.stop.Load() {
		case stopNow, stopGone:
			return false, nil
		case stopEmpty:
			if l.vring.late.empty() {
				return false, nil
			}
		default:
			if l.queue.EnableNotify() {
				continue
			}
		}
		if l.vring.late.handedIn() {
			continue
		}
		if err := l.poll.wait(); err != nil {
			return false, err
		}
	}
}

// batch answers late requests that are done, and handles new ones.
func (l *loop) batch(w *worker) (lost bool, err error) {
	l.collect()
	for range batchSize {
		if l.stop.Load() != goOn {
			break
		}
		ok, err := l.queue.Next(&w.chain)
		if err != nil {
			return false, err
		}
		if !ok {
			break
		}
		if lost := l.handle(w); lost {
			return true, nil
		}
		if l.queue.Staged() >= publishEvery {
			l.collect()
			if err := l.publish(); err != nil {
				return false, err
			}
		}
	}
	return false, l.publish()
}

// handle answers the request in w.chain, or hands it in later if the loop has
// gone to another worker meanwhile.
func (l *loop) handle(w *worker) (lost bool) {
	l.number++
	n := l.number
	w.number = n
	w.req.Readable, w.req.Writable = w.chain.Readable, w.chain.Writable
	l.busy.Store(n)
	if m := &l.backend.monitor; m.asleep.Load() { // after busy: see monitor
		m.rouse()
	}
	w.written = l.backend.device.Handle(&w.req)
	w.number = 0
	if !l.busy.CompareAndSwap(n, 0) {
		return true
	}
	if l.stop.Load() != stopGone { // its context was cancelled after that was set
		l.queue.Push(&w.chain, uint32(w.written))
	}
	return false
}

// blocks is what a handler calls that is about to wait.
func (w *worker) blocks() {
	if w.number != 0 && w.locked && w.loop.give(w.number) {
		runtime.UnlockOSThread() // who waits needs no thread
		w.locked = false
	}
}

// give takes the loop from the worker that is at request n, and gives it to a
// new one. It reports whether: the request may be over, and the number of late
// requests is bounded.
func (l *loop) give(n uint64) bool {
	b, late := l.backend, &l.vring.late
	late.mu.Lock()
	defer late.mu.Unlock()
	if b.lateCount.Add(1) > maxLate {
		b.lateCount.Add(-1)
		return false
	}
	w := l.holder.Load()
	if !l.busy.CompareAndSwap(n, 0) {
		b.lateCount.Add(-1)
		return false
	}
	l.table.retain()
	late.waiting = append(late.waiting, w)
	next := b.newWorker(l)
	l.holder.Store(next)
	b.workers.Add(1)
	go l.hold(next)
	return true
}

// collect answers the late requests that are done.
func (l *loop) collect() {
	if !l.vring.late.handedIn() {
		return
	}
	done := l.vring.late.take()
	gone := l.stop.Load() == stopGone // looked at after take: see handle
	for _, w := range done {
		if !w.failed && !gone {
			l.queue.Push(&w.chain, uint32(w.written))
		}
		l.backend.forget(w)
	}
}

// forget frees what a late request held.
func (b *Backend) forget(w *worker) {
	w.loop.table.release()
	b.lateCount.Add(-1)
	b.freeWorker(w)
}

func (l *loop) publish() error {
	staged := l.queue.Staged() > 0
	interrupt := l.queue.Publish()
	if staged && l.logged >= 0 {
		if err := signal(l.logged); err != nil {
			return fmt.Errorf("signal the dirty log: %w", err)
		}
	}
	if !interrupt || l.call < 0 {
		return nil
	}
	if err := signal(l.call); err != nil {
		return fmt.Errorf("interrupt the guest: %w", err)
	}
	return nil
}

// signal writes to an eventfd.
func signal(fd int) error {
	for {
		_, err := unix.Write(fd, one)
		switch {
		case errors.Is(err, unix.EINTR):
		case err == nil, errors.Is(err, unix.EAGAIN): // full: it is readable anyway
			return nil
		default:
			return err
		}
	}
}

// one is what adds one to an eventfd.
var one = []byte{1, 0, 0, 0, 0, 0, 0, 0}

// guard runs f, which touches guest memory. A front end that truncates the file
// of its guest's memory makes the access fault: that is f's error.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // only a fault has one
			err = errors.New("guest memory went away")
		default:
			panic(r)
		}
	}()
	return f()
}
