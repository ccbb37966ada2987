package vhostuser

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/virtqueue"
)

// publishEvery is after how many answers the guest is told of them, if more
// requests are waiting: it works on the first while we work on the rest.
const publishEvery = 32

// vring is one queue of a connection, as the front end sets it up. All of it
// belongs to the goroutine of the connection; while the worker runs, queue,
// kick and call are the worker's.
type vring struct {
	index   int
	config  virtqueue.Config
	hasAddr bool
	kick    int // eventfd, -1 if none: then the queue is not started
	call    int // eventfd, -1 if none
	enabled bool

	stopFD int           // eventfd that stops the worker, -1 if there is none
	done   chan struct{} // closed when the worker has ended
	queue  *virtqueue.Queue
}

func newVring(i int) *vring { return &vring{index: i, kick: -1, call: -1, stopFD: -1} }

func (v *vring) running() bool { return v.done != nil }

// start starts the worker, which calls handle for every request and failed if
// the queue breaks.
func (v *vring) start(mem *virtqueue.Memory, handle Handler, failed func(error)) error {
	var q *virtqueue.Queue
	err := guard(func() (err error) {
		q, err = virtqueue.New(mem, v.config)
		return err
	})
	if err != nil {
		return err
	}
	stopFD, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make eventfd: %w", err)
	}
	poll, err := newPoller(v.kick, stopFD)
	if err != nil {
		_ = unix.Close(stopFD)
		return err
	}
	v.queue, v.stopFD, v.done = q, stopFD, make(chan struct{})
	w := &worker{vring: v.index, queue: q, poll: poll, call: v.call, handle: handle}
	done := v.done
	go func() {
		defer close(done)
		defer poll.close()
		if err := guard(w.run); err != nil {
			failed(fmt.Errorf("queue %d: %w", w.vring, err))
		}
	}()
	return nil
}

// stop ends the worker after the request it is at, and keeps where it was.
func (v *vring) stop() {
	if !v.running() {
		return
	}
	_, _ = unix.Write(v.stopFD, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-v.done
	_ = unix.Close(v.stopFD)
	v.config.Base = v.queue.Base()
	v.queue, v.stopFD, v.done = nil, -1, nil
}

// close stops the worker and closes the descriptors.
func (v *vring) close() {
	v.stop()
	v.setKick(-1)
	v.setCall(-1)
}

func (v *vring) setKick(fd int) {
	if v.kick >= 0 {
		_ = unix.Close(v.kick)
	}
	v.kick = fd
}

func (v *vring) setCall(fd int) {
	if v.call >= 0 {
		_ = unix.Close(v.call)
	}
	v.call = fd
}

// worker handles the requests of one running queue.
type worker struct {
	vring  int
	queue  *virtqueue.Queue
	poll   *poller
	call   int
	handle Handler
	chain  virtqueue.Chain
}

// run returns nil when it was told to stop. It has a thread of its own: it
// sleeps in the kernel, and wakes without the scheduler's help.
func (w *worker) run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		w.queue.DisableNotify()
		if err := w.drain(); err != nil {
			return err
		}
		if w.queue.EnableNotify() {
			if stop, err := w.poll.stopped(); stop || err != nil {
				return err
			}
			continue
		}
		if stop, err := w.poll.wait(); stop || err != nil {
			return err
		}
	}
}

// drain handles what is in the queue, up to a bound so that a guest that never
// stops asking cannot keep a queue from being stopped.
func (w *worker) drain() error {
	for range 4 * publishEvery {
		ok, err := w.queue.Next(&w.chain)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		n := w.handle(w.vring, w.chain.Readable, w.chain.Writable)
		w.queue.Push(w.chain.Head, uint32(n))
		if w.queue.Staged() >= publishEvery {
			if err := w.publish(); err != nil {
				return err
			}
		}
	}
	return w.publish()
}

func (w *worker) publish() error {
	if !w.queue.Publish() || w.call < 0 {
		return nil
	}
	for {
		_, err := unix.Write(w.call, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		switch {
		case errors.Is(err, unix.EINTR):
		case err == nil, errors.Is(err, unix.EAGAIN): // full: the guest is told anyway
			return nil
		default:
			return fmt.Errorf("interrupt the guest: %w", err)
		}
	}
}

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
