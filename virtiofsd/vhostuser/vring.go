package vhostuser

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/virtqueue"
)

// vring is one queue of a connection, as the front end sets it up. It belongs to
// the goroutine of the connection, but for late.
type vring struct {
	backend *Backend
	index   int
	config  virtqueue.Config
	hasAddr bool
	kick    int // eventfd, -1 if none: then the queue is not started
	call    int // eventfd, -1 if none
	enabled bool

	wake   int   // eventfd on which the loop sleeps besides kick, -1 before the first start
	loop   *loop // nil while the queue does not run
	late   late
	ctx    context.Context // of the requests; nil: make one at the next start
	cancel context.CancelFunc
}

func newVring(b *Backend, i int) *vring {
	v := &vring{backend: b, index: i, kick: -1, call: -1, wake: -1}
	v.late.wake = &v.wake
	return v
}

func (v *vring) running() bool { return v.loop != nil }

// start starts the queue in the memory of table.
func (v *vring) start(t *table, stop int32) (err error) {
	if v.wake < 0 {
		if v.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			v.wake = -1
			return fmt.Errorf("make eventfd: %w", err)
		}
	}
	if v.ctx == nil {
		v.ctx, v.cancel = context.WithCancel(v.backend.ctx)
	}
	c := v.config
	c.Taken, c.Inflight = v.late.heads(), v.backend.inflight.of(v.index)
	l := &loop{backend: v.backend, vring: v, ctx: v.ctx, table: t, call: v.call, logged: -1, ended: make(chan struct{})}
	if v.backend.features&featureLogAll != 0 {
		c.Log, l.logged = v.backend.dirty.log, v.backend.dirty.signal
	}
	l.stop.Store(stop)
	err = guard(func() (err error) {
		l.queue, err = virtqueue.New(t.memory, c)
		return err
	})
	if err != nil {
		return err
	}
	if l.poll, err = newPoller(v.kick, v.wake); err != nil {
		return err
	}
	v.loop = l
	v.backend.watch()
	w := v.backend.newWorker(l)
	l.holder.Store(w)
	v.backend.workers.Add(1)
	go l.hold(w)
	return nil
}

// halt ends the loop after the request in hand, and keeps where it was. Late
// requests go on, and are answered when the queue runs again.
func (v *vring) halt() {
	if v.running() {
		v.tell(stopNow)
		v.joined()
	}
}

func (v *vring) tell(stop int32) {
	v.loop.stop.Store(stop)
	_, _ = unix.Write(v.wake, one)
}

// joined waits for the end of the loop. A front end that keeps the eventfd of its
// interrupts full may have left us waiting in a write to it: reading makes room.
func (v *vring) joined() {
	for !v.endsWithin(100*time.Millisecond, nil) {
		makeRoom(v.call)
		makeRoom(v.loop.logged)
	}
}

func makeRoom(fd int) {
	if fd < 0 {
		return
	}
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(p, 0); err == nil && n == 0 {
		var b [8]byte
		_, _ = unix.Read(fd, b[:])
	}
}

func (v *vring) ended() {
	v.loop.poll.close()
	v.config.Base = v.loop.queue.Base()
	v.loop = nil
	v.backend.watch()
}

// pause stops the queue when all requests are answered that were taken, or
// after a limit: those that still wait then are answered when the queue goes on.
func (v *vring) pause() {
	if !v.running() {
		return
	}
	v.tell(stopEmpty)
	if !v.endsWithin(v.backend.device.drainLimit(), v.backend.ending.Done()) {
		v.tell(stopNow)
	}
	if v.running() {
		v.joined()
	}
}

// drain stops the queue and answers all requests that were taken: those that
// still wait after a limit are cancelled.
func (v *vring) drain() {
	if !v.running() {
		if v.late.empty() {
			return
		}
		if t := v.backend.memory.table; t == nil || v.kick < 0 || v.start(t, stopEmpty) != nil {
			v.drop()
			return
		}
	} else {
		v.tell(stopEmpty)
	}
	if !v.endsWithin(v.backend.device.drainLimit(), v.backend.ending.Done()) {
		if v.backend.ending.Err() != nil {
			v.tell(stopGone)
		}
		v.backend.log.Warn("requests are cancelled: their queue has to stop", "queue", v.index, "requests", len(v.late.heads()))
		v.cancelRequests()
	}
	if v.running() {
		v.joined()
	}
	if !v.late.empty() { // the loop broke
		v.drop()
	}
}

// drop cancels the requests that wait, and gives up their answers.
func (v *vring) drop() {
	v.cancelRequests()
	for !v.late.empty() {
		for _, w := range v.late.take() {
			v.backend.forget(w)
		}
		time.Sleep(time.Millisecond) // rare, and soon over
	}
}

func (v *vring) cancelRequests() {
	if v.cancel != nil {
		v.cancel()
		v.ctx, v.cancel = nil, nil
	}
}

// endsWithin waits for the loop's end, and says whether it came: not within the
// limit, and not before given is closed.
func (v *vring) endsWithin(limit time.Duration, given <-chan struct{}) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-v.loop.ended:
		v.ended()
		return true
	case <-t.C:
		return false
	case <-given:
		return false
	}
}

func (v *vring) setKick(fd int) { replaceFD(&v.kick, fd) }
func (v *vring) setCall(fd int) { replaceFD(&v.call, fd) }

func replaceFD(fd *int, by int) {
	if *fd >= 0 {
		_ = unix.Close(*fd)
	}
	*fd = by
}
