package vhostuser

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxLate bounds the requests of a connection that are handled outside of their
// loops: each takes a goroutine and its buffers. When so many wait, the next one
// that blocks holds up its queue.
const maxLate = 128

// late holds the requests of a queue that block, which its loop does not wait
// for. It outlasts the loop: a queue may be stopped and started, with another
// memory table say, while they wait.
type late struct {
	wake *int // the vring's eventfd, on which the loop sleeps

	count atomic.Int32 // of done
	mu    sync.Mutex
	// waiting are those that are not answered yet, done those of them whose
	// handlers have returned.
	waiting, done []*worker
}

// finish is called by a worker whose handler has returned. It is the loop's
// from then on.
func (t *late) finish(w *worker) {
	t.mu.Lock()
	t.done = append(t.done, w)
	t.count.Store(int32(len(t.done)))
	t.mu.Unlock()
	_, _ = unix.Write(*t.wake, one)
}

// handedIn says whether take would return any.
func (t *late) handedIn() bool { return t.count.Load() != 0 }

// take returns the workers that are done, and forgets them.
func (t *late) take() []*worker {
	t.mu.Lock()
	defer t.mu.Unlock()
	done := t.done
	t.done = nil
	t.count.Store(0)
	t.waiting = slices.DeleteFunc(t.waiting, func(w *worker) bool { return slices.Contains(done, w) })
	return done
}

func (t *late) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting) == 0
}

// heads are those of the requests that are not answered yet.
func (t *late) heads() []uint16 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var heads []uint16
	for _, w := range t.waiting {
		heads = append(heads, w.chain.Head)
	}
	return heads
}
