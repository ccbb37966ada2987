package vhostuser_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"storeboot/virtiofsd/vhostuser"
	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// slowDevice echoes; a request that begins with 's' waits for release, and says
// so before if says. It counts its cancelled requests.
type slowDevice struct {
	says      bool
	release   chan struct{}
	begun     chan struct{}
	cancelled atomic.Int32
}

func newSlowDevice(says bool) *slowDevice {
	return &slowDevice{says: says, release: make(chan struct{}), begun: make(chan struct{}, 1000)}
}

func (d *slowDevice) handle(r *vhostuser.Request) int {
	if len(r.Readable) > 0 && r.Readable[0][0] == 's' {
		d.begun <- struct{}{}
		if d.says {
			r.Blocks()
			r.Blocks()
		}
		select {
		case <-d.release:
		case <-r.Context().Done():
			d.cancelled.Add(1)
		}
	}
	return echo(r)
}

// submit makes text available as chain number i, with an answer of its own.
func (q *echoQueue) submit(t testing.TB, i int, text string) {
	t.Helper()
	in, out := q.in+uint64(64*i), q.out+uint64(64*i)
	copy(q.f.Mem[in:], text)
	q.WriteDescriptors(q.Desc, 2*i, []vt.Descriptor{{Offset: in, Len: len(text)}, {Offset: out, Len: 64, Write: true}})
	if err := q.Submit(2 * i); err != nil {
		t.Fatal(err)
	}
}

// answer waits for the next answer and returns the number of its chain.
func (q *echoQueue) answer(t testing.TB) (i int, text string) {
	t.Helper()
	head, n, err := q.Wait()
	if err != nil {
		t.Fatal(err)
	}
	i = head / 2
	return i, string(q.f.Mem[q.out+uint64(64*i):][:n])
}

func startSlow(t *testing.T, d *slowDevice, limit time.Duration) (*daemon, *echoQueue) {
	t.Helper()
	dm := startDevice(t, vhostuser.Device{Queues: 5, Handle: d.handle, DrainLimit: limit})
	f := dm.connect(t, allFeatures)
	if err := f.ShareMemory(); err != nil {
		t.Fatal(err)
	}
	return dm, newQueue(t, f, 1, allFeatures)
}

// TestBlockedRequest holds that a request that waits holds up neither the others
// of its queue nor the messages of the VMM, whether it says that it will wait or
// not, and that it is answered once, when it is done.
func TestBlockedRequest(t *testing.T) {
	for _, says := range []bool{true, false} {
		t.Run(fmt.Sprintf("says=%v", says), func(t *testing.T) {
			d := newSlowDevice(says)
			_, q := startSlow(t, d, time.Hour)
			const blocked = 10
			for i := range blocked {
				q.submit(t, i, fmt.Sprint("s", i))
			}
			for i := range 500 {
				want := fmt.Sprint("quick", i)
				q.submit(t, 20, want)
				if i, text := q.answer(t); i != 20 || text != want {
					t.Fatalf("chain %d: %q", i, text)
				}
				if i == 250 { // another memory table, and a new call descriptor
					if err := q.f.ShareMemory(); err != nil {
						t.Fatal(err)
					}
					if err := q.f.Do(vt.SetVringCall, vt.U64(1), q.Call); err != nil {
						t.Fatal(err)
					}
				}
			}
			close(d.release)
			seen := map[int]bool{}
			for range blocked {
				i, text := q.answer(t)
				if seen[i] || text != fmt.Sprint("s", i) {
					t.Errorf("chain %d: %q, seen %v", i, text, seen[i])
				}
				seen[i] = true
			}
			if base, err := q.Stop(); err != nil || base != 500+blocked {
				t.Errorf("base %d: %v", base, err)
			}
		})
	}
}

// TestMoreBlockedThanAllowed holds that requests beyond the bound wait in the
// queue, and that all are answered in the end.
func TestMoreBlockedThanAllowed(t *testing.T) {
	d := newSlowDevice(true)
	dm := startDevice(t, vhostuser.Device{Queues: 5, Handle: d.handle})
	f := dm.connect(t, allFeatures)
	if err := f.ShareMemory(); err != nil {
		t.Fatal(err)
	}
	q, err := f.NewQueue(1, 512, allFeatures)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	e := &echoQueue{Queue: q, f: f, in: f.Alloc(64*256, 8), out: f.Alloc(64*256, 8)}
	const n = 200
	for i := range n {
		e.submit(t, i, fmt.Sprint("s", i))
	}
	for range 129 { // 128 outside of the loop, one that holds it up
		<-d.begun
	}
	select {
	case <-d.begun:
		t.Error("more requests are in progress than are allowed")
	case <-time.After(50 * time.Millisecond):
	}
	close(d.release)
	for range n {
		if i, text := e.answer(t); text != fmt.Sprint("s", i) {
			t.Errorf("chain %d: %q", i, text)
		}
	}
}

// TestStopWaits holds that a queue stops when its late requests are answered,
// and that what takes too long is cancelled and answered.
func TestStopWaits(t *testing.T) {
	d := newSlowDevice(true)
	_, q := startSlow(t, d, time.Hour)
	q.submit(t, 0, "s0")
	<-d.begun
	release := d.release
	time.AfterFunc(20*time.Millisecond, func() { close(release) })
	if base, err := q.Stop(); err != nil || base != 1 || d.cancelled.Load() != 0 {
		t.Fatalf("base %d: %v, %d cancelled", base, err, d.cancelled.Load())
	}
	if i, text := q.answer(t); i != 0 || text != "s0" {
		t.Errorf("chain %d: %q", i, text)
	}

	d = newSlowDevice(false)
	_, q = startSlow(t, d, 10*time.Millisecond)
	for round := range 3 {
		q.submit(t, 0, "s0")
		<-d.begun
		if base, err := q.Stop(); err != nil || base != round+1 {
			t.Fatalf("base %d: %v", base, err)
		}
		if i, text := q.answer(t); i != 0 || text != "s0" || int(d.cancelled.Load()) != round+1 {
			t.Errorf("chain %d: %q, %d cancelled", i, text, d.cancelled.Load())
		}
		if err := q.Start(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPauseKeepsRequests holds that a paused queue (cloud-hypervisor's pause is
// SET_VRING_ENABLE alone) does not give up what takes long.
func TestPauseKeepsRequests(t *testing.T) {
	d := newSlowDevice(true)
	_, q := startSlow(t, d, 10*time.Millisecond)
	q.submit(t, 0, "s0")
	<-d.begun
	if err := q.f.Do(vt.SetVringEnable, vt.State(1, 0)); err != nil {
		t.Fatal(err)
	}
	close(d.release)
	time.Sleep(20 * time.Millisecond)
	if q.Answers() != 0 {
		t.Error("a paused queue was answered")
	}
	if err := q.f.Do(vt.SetVringEnable, vt.State(1, 1)); err != nil {
		t.Fatal(err)
	}
	if i, text := q.answer(t); i != 0 || text != "s0" || d.cancelled.Load() != 0 {
		t.Errorf("chain %d: %q", i, text)
	}
}

// TestGuestGone holds that requests are cancelled when the guest goes.
func TestGuestGone(t *testing.T) {
	for _, says := range []bool{true, false} {
		d := newSlowDevice(says)
		dm, q := startSlow(t, d, time.Hour)
		for i := range 3 {
			q.submit(t, i, "s")
		}
		for range 3 {
			<-d.begun
		}
		q.f.Close()
		if err := dm.end(t); err != nil || d.cancelled.Load() != 3 {
			t.Errorf("%v, %d cancelled", err, d.cancelled.Load())
		}
	}
}

// TestSameChainTwice holds that a chain cannot be made available again while it
// is being handled: the number of requests in progress is bounded by the queue.
func TestSameChainTwice(t *testing.T) {
	d := newSlowDevice(true)
	dm, q := startSlow(t, d, time.Hour)
	q.submit(t, 0, "s")
	<-d.begun
	q.submit(t, 0, "s")
	if err := dm.end(t); err == nil {
		t.Error("accepted")
	}
}

// TestManyQueues has several queues with slow and quick requests at once.
func TestManyQueues(t *testing.T) {
	var n atomic.Int32
	dm := startDevice(t, vhostuser.Device{Queues: 5, Handle: func(r *vhostuser.Request) int {
		if n.Add(1)%17 == 0 {
			r.Blocks()
			ctx, cancel := context.WithTimeout(r.Context(), time.Duration(n.Load()%3)*time.Millisecond)
			defer cancel()
			<-ctx.Done()
		}
		return echo(r)
	}})
	f := dm.connect(t, allFeatures)
	if err := f.ShareMemory(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for index := range 5 {
		q := newQueue(t, f, index, allFeatures)
		wg.Go(func() {
			want := map[int]string{}
			for round := range 1000 {
				for i := range 20 {
					if want[i] == "" {
						want[i] = fmt.Sprint(index, round, i)
						q.submit(t, i, want[i])
					}
				}
				i, text := q.answer(t)
				if text != want[i] {
					t.Errorf("queue %d, chain %d: %q, want %q", index, i, text, want[i])
				}
				delete(want, i)
			}
		})
	}
	wg.Wait()
}
