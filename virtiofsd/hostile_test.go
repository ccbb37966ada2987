package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// hostileTime is how long TestHostile goes on: STOREBOOT_HOSTILE, or a moment.
func hostileTime(t *testing.T) time.Duration {
	text := os.Getenv("STOREBOOT_HOSTILE")
	if text == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("STOREBOOT_HOSTILE: %v", err)
	}
	return d
}

// servedDaemon is a real daemon that serves the suite's tree.
func servedDaemon(t *testing.T) (pid int, socket, root string) {
	t.Helper()
	store := filepath.Join(t.TempDir(), "store")
	path := strings.TrimSpace(must(t, "import", "--store", store, fixture(t)))
	socket = filepath.Join(shortDir(t), "s")
	cmd := process("serve", "--store", store, "--socket-path", socket)
	startProcess(t, cmd, socket)
	return cmd.Process.Pid, socket, filepath.Base(path)
}

// TestHostile lets hostile guests and VMMs loose on a real daemon: it goes on
// serving a sane guest, and has neither more memory, descriptors and threads
// than it may, nor work to do when they have gone.
func TestHostile(t *testing.T) {
	pid, socket, root := servedDaemon(t)
	g, err := vt.Mount(socket, vt.GuestOptions{Depth: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	sane := func() {
		t.Helper()
		e, err := g.Find(1, root+"/small")
		if err != nil {
			t.Fatal(err)
		}
		b, err := g.Call(vt.FuseRead, e.Node, vt.ReadPayload(0, 0, 4096), 4096)
		if err != nil || len(b) != 6 || b[5] != vt.FixtureByte("small", 5) {
			t.Fatalf("the sane guest reads %q: %v", b, err)
		}
	}
	sane()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	end := time.Now().Add(hostileTime(t))
	var wg sync.WaitGroup
	var hostile []*vt.Hostile
	stop := make(chan struct{})
	for i := range 2 {
		h := vt.NewHostile(seed + uint64(i))
		h.Messages = i == 1
		hostile = append(hostile, h)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					if h.Rounds >= 3 { // however slow the machine is
						return
					}
				default:
				}
				if err := h.Round(socket, 2000); err != nil {
					t.Errorf("round %d, seed %d: %v", h.Rounds, seed+uint64(i), err)
					return
				}
			}
		})
	}
	var most usage
	for time.Now().Before(end) && !t.Failed() {
		sane()
		most.max(usageOf(t, pid))
		time.Sleep(10 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	sane()
	for i, h := range hostile {
		t.Logf("hostile %d: %d connections, %d ended by the daemon; %d requests and messages, %d answers", i, h.Rounds, h.Refused, h.Sent, h.Answered)
		if h.Sent == 0 || h.Answered == 0 {
			t.Errorf("hostile %d does not reach the daemon", i)
		}
	}
	t.Logf("at most %+v", most)
	if most.KiB > 1<<20 || most.Descriptors > 500 || most.Threads > 300 {
		t.Errorf("the daemon has %+v", most)
	}
	// With a sane guest that asks nothing there is nothing to do. A thread that
	// spins would take far more than this in the time.
	before := usageOf(t, pid)
	time.Sleep(2 * time.Second)
	after := usageOf(t, pid)
	if spent := after.CPU - before.CPU; spent > time.Second {
		t.Errorf("the daemon has spent %v doing nothing", spent)
	}
	if after.Descriptors > 40 {
		t.Errorf("%d descriptors are left open", after.Descriptors)
	}
}

// usage is what a process has.
type usage struct {
	KiB, Descriptors, Threads int
	CPU                       time.Duration
}

func (u *usage) max(v usage) {
	u.KiB, u.Descriptors, u.Threads = max(u.KiB, v.KiB), max(u.Descriptors, v.Descriptors), max(u.Threads, v.Threads)
}

func usageOf(t *testing.T, pid int) (u usage) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatalf("the daemon has gone: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "RssAnon:": // what is the guests' own is shared memory
			u.KiB = n
		case "Threads:":
			u.Threads = n
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatalf("the daemon's descriptors: %v", err)
	}
	u.Descriptors = len(fds)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, i := range []int{11, 12} { // utime, stime in hundredths of a second
		n, err := strconv.Atoi(f[i])
		if err != nil {
			t.Fatal(err)
		}
		u.CPU += time.Duration(n) * 10 * time.Millisecond
	}
	return u
}
