package vhostuser_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/vhostuser"
	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// TestInflight replaces a back end that has requests in flight by another one:
// each is answered once, also those that the first had not taken.
func TestInflight(t *testing.T) {
	t.Run("connection lost", func(t *testing.T) {
		testInflight(t, func(_ *daemon, f *vt.FrontEnd) { _ = f.Conn.Close() })
	})
	t.Run("daemon ends", func(t *testing.T) {
		testInflight(t, func(d *daemon, _ *vt.FrontEnd) { d.stop() })
	})
}

func testInflight(t *testing.T, end func(*daemon, *vt.FrontEnd)) {
	first := newSlowDevice(true)
	firstDaemon, q := startSlow(t, first, time.Hour)
	record, err := q.f.NewInflight(5, 64)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(record.FD)
	if _, err := q.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := q.Restart(record); err != nil {
		t.Fatal(err)
	}
	const blocked = 5
	for i := range blocked {
		q.submit(t, i, fmt.Sprint("s", i))
		q.submit(t, 10+i, fmt.Sprint("quick", i))
		if i, text := q.answer(t); i < 10 || text != fmt.Sprint("quick", i-10) {
			t.Fatalf("chain %d: %q", i, text)
		}
	}
	for range blocked {
		<-first.begun
	}
	end(firstDaemon, q.f) // the first cancels them, which is no answer
	for i := range 3 {
		q.submit(t, 20+i, fmt.Sprint("s new", i)) // to nobody
	}
	second := newSlowDevice(false)
	dm := startDevice(t, vhostuser.Device{Queues: 5, Handle: second.handle})
	if err := q.f.Reconnect(dm.path, allFeatures); err != nil {
		t.Fatal(err)
	}
	if err := q.Restart(record); err != nil {
		t.Fatal(err)
	}
	close(second.release)
	seen := map[int]bool{}
	for range blocked + 3 {
		i, text := q.answer(t)
		want := fmt.Sprint("s", i)
		if i >= 20 {
			want = fmt.Sprint("s new", i-20)
		}
		if seen[i] || text != want {
			t.Errorf("chain %d: %q, want %q, seen %v", i, text, want, seen[i])
		}
		seen[i] = true
	}
	if base, err := q.Stop(); err != nil || base != 2*blocked+3 || q.Answers() != 0 {
		t.Errorf("base %d: %v, %d answers too many", base, err, q.Answers())
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

// transfer begins a transfer of the device's state, and says whether the back
// end took it.
func transfer(t *testing.T, f *vt.FrontEnd, direction, phase uint32, fd int) bool {
	t.Helper()
	if err := f.Send(vt.SetDeviceStateFD, 0, vt.State(direction, phase), fd); err != nil {
		t.Fatal(err)
	}
	b, err := f.Receive(vt.SetDeviceStateFD)
	if err != nil || len(b) != 8 {
		t.Fatal(b, err)
	}
	v := binary.LittleEndian.Uint64(b)
	if v&0x100 == 0 {
		t.Errorf("answer %#x: a descriptor should have come", v)
	}
	return v&0xff == 0
}

func TestDeviceState(t *testing.T) {
	state := []byte("the state")
	var loaded atomic.Pointer[[]byte]
	dm := startDevice(t, vhostuser.Device{
		Queues: 5, Handle: echo, DrainLimit: 50 * time.Millisecond,
		SaveState: func() ([]byte, error) { return state, nil },
		LoadState: func(b []byte) error {
			if bytes.HasPrefix(b, []byte("bad")) {
				return errors.New("bad state")
			}
			loaded.Store(&b)
			return nil
		},
	})
	f := dm.connect(t, allFeatures)
	check := func() bool {
		t.Helper()
		v, err := f.Ask(vt.CheckDeviceState, nil)
		if err != nil {
			t.Fatal(err)
		}
		return v == 0
	}
	if check() {
		t.Error("CHECK_DEVICE_STATE without a transfer")
	}
	r, w := pipe(t)
	if !transfer(t, f, 0, 0, int(w.Fd())) {
		t.Fatal("refused to save")
	}
	_ = w.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != string(state) || !check() {
		t.Errorf("saved %q: %v", got, err)
	}
	for _, text := range []string{"the state", "bad state", string(make([]byte, 40<<10))} {
		r, w := pipe(t)
		if !transfer(t, f, 1, 0, int(r.Fd())) {
			t.Fatal("refused to load")
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		if ok := check(); ok != (text == "the state") {
			t.Errorf("loaded %.20q: %v", text, ok)
		}
	}
	if b := loaded.Load(); b == nil || string(*b) != "the state" {
		t.Errorf("loaded %v", b)
	}
	r, w = pipe(t)
	if !transfer(t, f, 1, 0, int(r.Fd())) {
		t.Fatal("refused to load")
	}
	if check() { // w stays open: the state does not end
		t.Error("half a state was loaded")
	}
	for _, bad := range [][2]uint32{{2, 0}, {0, 1}} {
		if transfer(t, f, bad[0], bad[1], int(w.Fd())) {
			t.Errorf("direction %d, phase %d", bad[0], bad[1])
		}
	}
	if err := f.ShareMemory(); err != nil {
		t.Fatal(err)
	}
	q := newQueue(t, f, 1, allFeatures)
	if transfer(t, f, 0, 0, int(w.Fd())) {
		t.Error("while a queue runs")
	}
	q.echo(t, "still served")
}

// TestNoDeviceState holds that what a device cannot do is not offered.
func TestNoDeviceState(t *testing.T) {
	f := startDaemon(t, echo).connect(t, allFeatures)
	if f.Protocol&vt.ProtocolDeviceState != 0 {
		t.Error("offered")
	}
}

// TestDirtyLog migrates a guest's memory as a VMM does: it copies what changed
// while the guest runs, and has all of it in the end.
func TestDirtyLog(t *testing.T) {
	f := startDaemon(t, echo).connect(t, allFeatures)
	if err := f.ShareMemory(); err != nil {
		t.Fatal(err)
	}
	q := newQueue(t, f, 1, allFeatures)
	q.echo(t, "before")
	size := (vt.GuestBase + uint64(len(f.Mem))) / 4096 / 8
	fd, err := unix.MemfdCreate("log", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		t.Fatal(err)
	}
	log, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(log)
	told := eventFD(t)
	if err := f.Send(vt.SetLogBase, 0, append(vt.U64(size), vt.U64(0)...), fd); err != nil {
		t.Fatal(err)
	}
	if b, err := f.Receive(vt.SetLogBase); err != nil || len(b) != 16 {
		t.Fatal(b, err)
	}
	if err := f.Do(vt.SetLogFD, vt.U64(0), told); err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(f.Mem)
	if err := f.Do(vt.SetFeatures, vt.U64(allFeatures|vt.FeatureLogAll)); err != nil {
		t.Fatal(err)
	}
	if err := q.SetAddresses(true); err != nil { // while it runs
		t.Fatal(err)
	}
	for i := range 50 {
		q.echo(t, fmt.Sprint("while logging", i))
	}
	q.out += 3*4096 - 100 // over the end of a page
	q.echo(t, string(bytes.Repeat([]byte{'x'}, 200)))
	if _, err := q.Stop(); err != nil {
		t.Fatal(err)
	}
	copied := 0
	for page := 0; page < len(f.Mem)/4096; page++ {
		n := vt.GuestBase/4096 + page
		part := f.Mem[4096*page : 4096*(page+1)]
		if log[n/8]&(1<<(n%8)) != 0 {
			copied++
			continue
		}
		// The driver's own pages the VMM knows of; here it wrote some.
		if off := uint64(page) * 4096; !bytes.Equal(part, before[4096*page:][:4096]) && off != q.in&^4095 && off != q.Desc&^4095 && off != q.Avail&^4095 {
			t.Errorf("page %#x was written and not noted", page)
		}
	}
	if copied == 0 || copied > 10 {
		t.Errorf("%d pages are noted", copied)
	}
	var b [8]byte
	if _, err := unix.Read(told, b[:]); err != nil {
		t.Errorf("the log's eventfd: %v", err)
	}
	if err := f.Do(vt.SetFeatures, vt.U64(allFeatures)); err != nil {
		t.Fatal(err)
	}
	clear(log)
	if err := q.Start(); err != nil {
		t.Fatal(err)
	}
	q.echo(t, "no more logging")
	if !bytes.Equal(log, make([]byte, len(log))) {
		t.Error("logged after the end")
	}
}

// TestCallIsFull holds that a front end that never reads its interrupts, and
// keeps the eventfd full and blocking, cannot keep the connection from ending.
func TestCallIsFull(t *testing.T) {
	d := startDaemon(t, echo)
	f := d.connect(t, allFeatures&^vt.FeatureEventIdx)
	if err := f.ShareMemory(); err != nil {
		t.Fatal(err)
	}
	q := newQueue(t, f, 1, allFeatures&^vt.FeatureEventIdx)
	full, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(full)
	if _, err := unix.Write(full, vt.U64(1<<64-2)); err != nil {
		t.Fatal(err)
	}
	if err := f.Do(vt.SetVringCall, vt.U64(1), full); err != nil {
		t.Fatal(err)
	}
	q.submit(t, 0, "x")
	for q.Answers() == 0 {
		time.Sleep(time.Millisecond)
	}
	f.Close()
	if err := d.end(t); err != nil {
		t.Error(err)
	}
}

// reserveHugePages has the kernel set n more huge pages apart until the test
// ends. Others than root have those that there are.
func reserveHugePages(t *testing.T, n int) {
	t.Helper()
	const file = "/proc/sys/vm/nr_hugepages"
	was, err := os.ReadFile(file)
	if err != nil {
		return
	}
	count, err := strconv.Atoi(strings.TrimSpace(string(was)))
	if err != nil {
		t.Fatal(err)
	}
	if os.WriteFile(file, []byte(strconv.Itoa(count+n)), 0) == nil {
		t.Cleanup(func() { _ = os.WriteFile(file, was, 0) })
	}
}

// TestHugePages maps a guest's memory of huge pages, if the system has any.
func TestHugePages(t *testing.T) {
	const huge = 2 << 20
	fd, err := unix.MemfdCreate("huge", unix.MFD_CLOEXEC|unix.MFD_HUGETLB)
	if err != nil {
		t.Skipf("SKIP: the system has no huge pages: %v", err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, 4*huge); err != nil {
		t.Fatal(err)
	}
	reserveHugePages(t, 4)
	mem, err := unix.Mmap(fd, 0, 4*huge, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Skipf("SKIP: the system has no 4 free huge pages: %v (vm.nr_hugepages)", err)
	}
	defer unix.Munmap(mem)
	f := startDaemon(t, echo).connect(t, allFeatures)
	f.Mem, f.MemFD = mem, fd
	if err := f.ShareMemory(); err != nil {
		t.Fatal(err)
	}
	q := newQueue(t, f, 1, allFeatures)
	q.echo(t, "in a huge page")
}
