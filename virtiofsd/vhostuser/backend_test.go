package vhostuser_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/vhostuser"
	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

const allFeatures = vt.FeatureIndirect | vt.FeatureEventIdx | vt.FeatureProtocol | vt.FeatureVersion1

// echo answers a request with its own bytes.
func echo(r *vhostuser.Request) int {
	in := bytes.Join(r.Readable, nil)
	n := 0
	for _, b := range r.Writable {
		n += copy(b, in[n:])
	}
	return n
}

// daemon is a listening back end; ends carries how each connection ended.
type daemon struct {
	path string
	ends chan error
	stop func()
}

func startDaemon(t testing.TB, handle vhostuser.Handler) *daemon {
	t.Helper()
	return startDevice(t, vhostuser.Device{Queues: 5, Handle: handle})
}

func startDevice(t testing.TB, device vhostuser.Device) *daemon {
	t.Helper()
	d := &daemon{path: filepath.Join(t.TempDir(), "s"), ends: make(chan error, 1000)}
	l, err := vhostuser.Listen(d.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			wg.Go(func() {
				d.ends <- vhostuser.NewBackend(c, device, slog.New(slog.DiscardHandler)).Serve(ctx)
			})
		}
	})
	d.stop = func() {
		cancel()
		_ = l.Close()
		wg.Wait()
	}
	t.Cleanup(d.stop)
	return d
}

func (d *daemon) end(t testing.TB) error {
	t.Helper()
	select {
	case err := <-d.ends:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("the connection does not end")
		return nil
	}
}

func (d *daemon) connect(t testing.TB, features uint64) *vt.FrontEnd {
	t.Helper()
	f, err := vt.Connect(d.path, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	queues, err := f.Negotiate(features)
	if err != nil {
		t.Fatal(err)
	}
	if queues != 5 {
		t.Fatalf("%d queues", queues)
	}
	return f
}

func newQueue(t testing.TB, f *vt.FrontEnd, index int, features uint64) *echoQueue {
	t.Helper()
	q, err := f.NewQueue(index, 64, features)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return &echoQueue{Queue: q, f: f, in: f.Alloc(4096, 8), out: f.Alloc(4096, 8)}
}

type echoQueue struct {
	*vt.Queue
	f       *vt.FrontEnd
	in, out uint64
}

// echo sends text and checks the answer.
func (q *echoQueue) echo(t testing.TB, text string) {
	t.Helper()
	copy(q.f.Mem[q.in:], text)
	clear(q.f.Mem[q.out : q.out+4096])
	q.WriteDescriptors(q.Desc, 5, []vt.Descriptor{{Offset: q.in, Len: len(text)}, {Offset: q.out, Len: 4096, Write: true}})
	if err := q.Submit(5); err != nil {
		t.Fatal(err)
	}
	head, n, err := q.Wait()
	if err != nil || head != 5 || string(q.f.Mem[q.out:][:n]) != text {
		t.Fatalf("head %d, %d bytes: %v", head, n, err)
	}
}

// TestSequenceCloudHypervisor replays its order of messages (spec/vmm.md 1.1):
// activation, reset by the guest, activation on the same connection.
func TestSequenceCloudHypervisor(t *testing.T) {
	for name, features := range map[string]uint64{
		"all features":   allFeatures,
		"no event index": allFeatures &^ vt.FeatureEventIdx,
		"least":          vt.FeatureProtocol | vt.FeatureVersion1,
	} {
		t.Run(name, func(t *testing.T) {
			d := startDaemon(t, echo)
			f := d.connect(t, features)
			if err := f.ShareMemory(); err != nil {
				t.Fatal(err)
			}
			queues := []*echoQueue{newQueue(t, f, 0, features), newQueue(t, f, 1, features), newQueue(t, f, 2, features)}
			for round := range 3 {
				for _, q := range queues {
					for range 100 {
						q.echo(t, strings.Repeat("x", 1+round*1000))
					}
				}
				for _, q := range queues {
					if base, err := q.Stop(); err != nil || base != 100*(round+1) {
						t.Fatalf("base %d: %v", base, err)
					}
				}
				if err := f.ShareMemory(); err != nil { // always sent again
					t.Fatal(err)
				}
				for _, q := range queues {
					if err := q.Start(); err != nil {
						t.Fatal(err)
					}
				}
			}
			f.Close()
			if err := d.end(t); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSequenceQEMU replays QEMU's (1.2): memory by regions, kept over a reboot;
// a new call descriptor while the queue runs; RESET_DEVICE.
func TestSequenceQEMU(t *testing.T) {
	d := startDaemon(t, echo)
	f := d.connect(t, allFeatures)
	half := uint64(len(f.Mem) / 2)
	add := func(off uint64) {
		t.Helper()
		if err := f.Do(vt.AddMemRegion, append(vt.U64(0), vt.Region(off, half)...), f.MemFD); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := f.Ask(vt.GetMaxMemSlots, nil); err != nil || n < 8 {
		t.Fatal(n, err)
	}
	add(0)
	q := newQueue(t, f, 1, allFeatures)
	q.echo(t, "one region")
	add(half) // hot-plug, while the queue runs
	q.out = half + 100
	q.echo(t, "answer into the new region")
	q.out = half - 8
	q.echo(t, "answer across regions")
	if err := f.Do(vt.SetVringCall, vt.U64(1), q.Call); err != nil {
		t.Fatal(err)
	}
	if err := f.Do(vt.SetVringErr, vt.U64(1), q.Call); err != nil {
		t.Fatal(err)
	}
	q.echo(t, "after a new call descriptor")
	if _, err := q.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := f.Do(vt.ResetDevice, nil); err != nil {
		t.Fatal(err)
	}
	if err := q.Start(); err != nil { // the guest has rebooted; memory is not sent again
		t.Fatal(err)
	}
	q.echo(t, "after a reboot")
	if err := f.Do(vt.RemoveMemRegion, append(vt.U64(0), vt.Region(half, half)...)); err != nil {
		t.Fatal(err)
	}
	q.out = q.in + 2048
	q.echo(t, "one region is enough")
}

// TestStopWhileBusy stops and starts a queue under load: no request is lost or
// answered twice, and each stop waits for the request in progress.
func TestStopWhileBusy(t *testing.T) {
	var mu sync.Mutex
	handled := 0
	d := startDaemon(t, func(r *vhostuser.Request) int {
		mu.Lock()
		handled++
		mu.Unlock()
		time.Sleep(100 * time.Microsecond)
		return echo(r)
	})
	f := d.connect(t, allFeatures)
	if err := f.ShareMemory(); err != nil {
		t.Fatal(err)
	}
	q := newQueue(t, f, 1, allFeatures)
	const total, batch = 1600, 16
	for done := 0; done < total; done += batch {
		for i := range batch {
			q.WriteDescriptors(q.Desc, 2*i, []vt.Descriptor{{Offset: q.in, Len: 8}, {Offset: q.out, Len: 8, Write: true}})
			if err := q.Submit(2 * i); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := q.Stop(); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		before := handled
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
		if handled != before {
			t.Fatalf("%d requests were handled after the stop", handled-before)
		}
		mu.Unlock()
		// What was not handled is found at the next start without a kick.
		if err := q.StartAt(before); err != nil {
			t.Fatal(err)
		}
		for range batch {
			if _, _, err := q.Wait(); err != nil {
				t.Fatal(err)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if handled != total {
		t.Errorf("%d requests handled, want %d", handled, total)
	}
}

// TestHostileFrontEnds breaks the protocol in many ways: each ends its own
// connection, while another one on the same daemon goes on.
func TestHostileFrontEnds(t *testing.T) {
	d := startDaemon(t, echo)
	good := d.connect(t, allFeatures)
	if err := good.ShareMemory(); err != nil {
		t.Fatal(err)
	}
	goodQueue := newQueue(t, good, 1, allFeatures)
	ready := func(f *vt.FrontEnd) error { return f.ShareMemory() }
	send := func(request uint32, payload []byte, fds ...int) func(f *vt.FrontEnd) error {
		return func(f *vt.FrontEnd) error { return f.Send(request, 0, payload, fds...) }
	}
	region := func(gpa, size, user, off uint64) []byte {
		b := vt.U64(0)
		for _, v := range []uint64{gpa, size, user, off} {
			b = append(b, vt.U64(v)...)
		}
		return b
	}
	badQueue := func(setup func(f *vt.FrontEnd, q *vt.Queue)) func(f *vt.FrontEnd) error {
		return func(f *vt.FrontEnd) error {
			if err := f.ShareMemory(); err != nil {
				return err
			}
			q, err := f.NewQueue(1, 8, allFeatures)
			if err != nil {
				return err
			}
			defer q.Close()
			setup(f, q)
			if q.Index == 0 { // it has submitted by itself
				return nil
			}
			return q.Submit(0)
		}
	}
	tests := map[string]func(f *vt.FrontEnd) error{
		"random bytes": func(f *vt.FrontEnd) error { _, err := f.Conn.Write(bytes.Repeat([]byte{0xa5}, 100)); return err },
		"half a header": func(f *vt.FrontEnd) error {
			_, err := f.Conn.Write(make([]byte, 5))
			return errors.Join(err, f.Conn.CloseWrite())
		},
		"huge size": func(f *vt.FrontEnd) error {
			_, err := f.Conn.Write(append(append(vt.State(1, 1), 0xff, 0xff, 0xff, 0x7f), make([]byte, 4000)...))
			return err
		},
		"unknown request":      send(99, nil),
		"not offered request":  send(24, vt.U64(0)),
		"features not offered": send(vt.SetFeatures, vt.U64(1<<35)),
		"short payload":        send(vt.SetFeatures, nil),
		"queue out of range":   send(vt.SetVringNum, vt.State(5, 8)),
		"queue size":           send(vt.SetVringNum, vt.State(0, 7)),
		"kick out of range":    send(vt.SetVringKick, vt.U64(200), 0),
		"kick without fd":      send(vt.SetVringKick, vt.U64(1)),
		"kick with no-fd bit":  send(vt.SetVringKick, vt.U64(0x101)),
		"kick by polling file": func(f *vt.FrontEnd) error {
			return errors.Join(ready(f), f.Send(vt.SetVringKick, 0, vt.U64(1), f.MemFD), f.Send(vt.SetVringAddr, 0, append(vt.State(1, 0), bytes.Repeat(vt.U64(vt.UserBase), 4)...)), f.Send(vt.SetVringNum, 0, vt.State(1, 8)), f.Send(vt.SetVringEnable, 0, vt.State(1, 1)))
		},
		"flags of a ring":   send(vt.SetVringAddr, append(vt.State(0, 2), make([]byte, 32)...)),
		"dirty log without": send(vt.SetLogBase, append(vt.U64(4096), vt.U64(0)...)),
		"dirty log too long": func(f *vt.FrontEnd) error {
			return f.Send(vt.SetLogBase, 0, append(vt.U64(uint64(len(f.Mem))+1), vt.U64(0)...), f.MemFD)
		},
		"dirty log wraps": func(f *vt.FrontEnd) error {
			return f.Send(vt.SetLogBase, 0, append(vt.U64(4096), vt.U64(^uint64(0)-4095)...), f.MemFD)
		},
		"log eventfd is a pipe": func(f *vt.FrontEnd) error { return f.Send(vt.SetLogFD, 0, vt.U64(0), pipeFD(t)) },
		"call is a pipe":        func(f *vt.FrontEnd) error { return f.Send(vt.SetVringCall, 0, vt.U64(1), pipeFD(t)) },
		"in flight, no queue":   send(vt.GetInflightFD, make([]byte, 20)),
		"in flight, too many":   send(vt.GetInflightFD, append(make([]byte, 16), 200, 0, 64, 0)),
		"in flight, too large":  send(vt.GetInflightFD, append(make([]byte, 16), 1, 0, 0xff, 0xff)),
		"in flight, too short": func(f *vt.FrontEnd) error {
			return f.Send(vt.SetInflightFD, 0, append(append(vt.U64(64), vt.U64(0)...), 1, 0, 64, 0), f.MemFD)
		},
		"in flight, past the file": func(f *vt.FrontEnd) error {
			return f.Send(vt.SetInflightFD, 0, append(append(vt.U64(1<<20), vt.U64(uint64(len(f.Mem)))...), 1, 0, 64, 0), f.MemFD)
		},
		"device state is not there": send(vt.CheckDeviceState, nil),
		"base too large":            send(vt.SetVringBase, vt.State(0, 1<<16)),
		"get base of none":          send(vt.GetVringBase, vt.State(77, 0)),
		"no regions":                send(vt.SetMemTable, vt.State(0, 0)),
		"too many regions":          send(vt.SetMemTable, vt.State(1000, 0)),
		"regions without fds":       send(vt.SetMemTable, append(vt.State(1, 0), vt.Region(0, 4096)...)),
		"region past the file": func(f *vt.FrontEnd) error {
			return f.Send(vt.AddMemRegion, 0, region(0, uint64(len(f.Mem))+1, 0, 0), f.MemFD)
		},
		"region that wraps": func(f *vt.FrontEnd) error {
			return f.Send(vt.AddMemRegion, 0, region(^uint64(0)-100, 4096, 0, 0), f.MemFD)
		},
		"offset that wraps": func(f *vt.FrontEnd) error {
			return f.Send(vt.AddMemRegion, 0, region(0, 4096, 0, ^uint64(0)-4095), f.MemFD)
		},
		"overlapping regions": func(f *vt.FrontEnd) error {
			return errors.Join(ready(f), f.Send(vt.AddMemRegion, 0, region(vt.GuestBase+4096, 4096, 0, 0), f.MemFD))
		},
		"more memory than we take": func(f *vt.FrontEnd) error {
			fd, err := unix.MemfdCreate("huge", unix.MFD_CLOEXEC) // takes nothing
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			const n = 1 << 41
			err = unix.Ftruncate(fd, 3*n)
			for i := range uint64(3) {
				err = errors.Join(err, f.Send(vt.AddMemRegion, 0, region(i*n, n, i*n, i*n), fd))
			}
			return err
		},
		"remove what is not": send(vt.RemoveMemRegion, region(1, 2, 3, 4)),
		"memory is a pipe":   func(f *vt.FrontEnd) error { return f.Send(vt.AddMemRegion, 0, region(0, 4096, 0, 0), pipeFD(t)) },
		"ring past the region": func(f *vt.FrontEnd) error {
			return errors.Join(ready(f), f.Send(vt.SetVringNum, 0, vt.State(1, 32768)), f.Send(vt.SetVringAddr, 0, append(vt.State(1, 0), bytes.Repeat(vt.U64(vt.UserBase+uint64(len(f.Mem))-16), 4)...)), f.Send(vt.SetVringKick, 0, vt.U64(1), eventFD(t)), f.Send(vt.SetVringEnable, 0, vt.State(1, 1)))
		},
		"descriptor loop": badQueue(func(_ *vt.FrontEnd, q *vt.Queue) {
			q.SetDescriptor(q.Desc, 0, vt.GuestBase, 1, 1, 0)
		}),
		"address in no region": badQueue(func(_ *vt.FrontEnd, q *vt.Queue) {
			q.SetDescriptor(q.Desc, 0, 0, 1, 0, 0)
		}),
		"available index jumps": badQueue(func(f *vt.FrontEnd, q *vt.Queue) {
			binary.LittleEndian.PutUint16(f.Mem[q.Avail+2:], 5000)
			if err := q.Notify(); err != nil {
				t.Error(err)
			}
			q.Index = 0
		}),
		"memory goes away": badQueue(func(f *vt.FrontEnd, q *vt.Queue) {
			q.SetDescriptor(q.Desc, 0, vt.GuestBase+uint64(len(f.Mem))-4096, 4096, 0, 0)
			if err := unix.Ftruncate(f.MemFD, int64(len(f.Mem))-4096); err != nil {
				t.Error(err)
			}
		}),
		"enable 2": send(vt.SetVringEnable, vt.State(0, 2)),
	}
	for name, hostile := range tests {
		t.Run(name, func(t *testing.T) {
			f := d.connect(t, allFeatures)
			if err := hostile(f); err != nil {
				t.Fatal(err)
			}
			if err := d.end(t); err == nil {
				t.Error("the connection ended without an error")
			}
			goodQueue.echo(t, "still served")
		})
	}
}

// TestRefusalIsAcknowledged holds that a front end that asked is told.
func TestRefusalIsAcknowledged(t *testing.T) {
	d := startDaemon(t, echo)
	f := d.connect(t, allFeatures)
	if err := f.Do(vt.SetVringNum, vt.State(0, 7)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

// TestFlagsOfDescriptors holds that the file status flags of what a front end
// passes stay as they are: it shares them.
func TestFlagsOfDescriptors(t *testing.T) {
	d := startDaemon(t, echo)
	f := d.connect(t, allFeatures)
	if err := f.ShareMemory(); err != nil {
		t.Fatal(err)
	}
	q := newQueue(t, f, 0, allFeatures)
	q.echo(t, "x")
	for _, fd := range []int{q.Kick, q.Call} {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("flags %#x: %v", flags, err)
		}
	}
}

func pipeFD(t *testing.T) int {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(p[0]), unix.Close(p[1]) })
	return p[0]
}

func eventFD(t *testing.T) int {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// FuzzMessages feeds a connection any bytes.
func FuzzMessages(f *testing.F) {
	message := func(request uint32, payload []byte) []byte {
		b := append(vt.State(request, 1|vt.NeedReply), 0, 0, 0, 0)
		binary.LittleEndian.PutUint32(b[8:], uint32(len(payload)))
		return append(b, payload...)
	}
	var all []byte
	for _, m := range [][]byte{
		message(vt.SetOwner, nil), message(vt.GetFeatures, nil), message(vt.SetFeatures, vt.U64(allFeatures)),
		message(vt.SetProtocolFeatures, vt.U64(vt.ProtocolReply)), message(vt.GetQueueNum, nil),
		message(vt.SetVringNum, vt.State(1, 64)), message(vt.SetVringBase, vt.State(1, 3)),
		message(vt.SetVringAddr, append(vt.State(1, 0), make([]byte, 32)...)),
		message(vt.SetVringEnable, vt.State(1, 1)), message(vt.GetVringBase, vt.State(1, 0)),
		message(vt.SetMemTable, append(vt.State(1, 0), vt.Region(0, 4096)...)),
	} {
		all = append(all, m...)
		f.Add(append([]byte(nil), all...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := unixConn(t, fds[0]), unixConn(t, fds[1])
		defer theirs.Close()
		go func() {
			_, _ = theirs.Write(data)
			_ = theirs.CloseWrite()
		}()
		go func() { _, _ = bytes.NewBuffer(nil).ReadFrom(theirs) }()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = vhostuser.NewBackend(ours, vhostuser.Device{Queues: 2, Handle: echo}, slog.New(slog.DiscardHandler)).Serve(ctx)
		if ctx.Err() != nil {
			t.Fatal("the connection does not end")
		}
	})
}

func unixConn(t *testing.T, fd int) *net.UnixConn {
	t.Helper()
	f := newFile(fd)
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.UnixConn)
}
