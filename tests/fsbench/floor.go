package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// floor is the name of what no daemon can do without.
const floor = "floor"

// measureFloor does once what the daemons have to do: reads by pread, and for a
// single request two threads that wake each other.
func measureFloor(o options, t *table) error {
	f, err := os.Open(filepath.Join(o.dir, "tree", "big"))
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for _, size := range []int{128 << 10, 1 << 20} {
		begin := time.Now()
		for off := int64(0); off < bigSize; off += int64(size) {
			if _, err := f.ReadAt(buf[:size], off); err != nil {
				return err
			}
		}
		for _, depth := range depths {
			name := fmt.Sprintf("READ of %d KiB, depth %d", size>>10, depth)
			t.addTo(floor, name, "GB/s", higher, bigSize/1e9/time.Since(begin).Seconds())
			t.addTo(floor, name+perGiB, "s", lower, time.Since(begin).Seconds()*(1<<30)/bigSize)
		}
	}
	const size, n = 4096, 20000
	random := rand.New(rand.NewPCG(1, 2))
	begin := time.Now()
	for range n {
		if _, err := f.ReadAt(buf[:size], int64(random.Uint64N(bigSize/size))*size); err != nil {
			return err
		}
	}
	read := time.Since(begin)
	wake, err := wakeUps(n)
	if err != nil {
		return err
	}
	for _, name := range []string{"LOOKUP, depth 1", "GETATTR, depth 1"} {
		t.addTo(floor, name, "1/s", higher, n/wake.Seconds())
	}
	t.addTo(floor, "READ of 4 KiB anywhere, depth 1", "1/s", higher, n/(wake+read).Seconds())
	t.addTo(floor, "READ of 4 KiB anywhere, depth 32", "1/s", higher, n/read.Seconds())
	return nil
}

// wakeUps is how long two threads take that wake each other n times.
func wakeUps(n int) (time.Duration, error) {
	var fds [2]int
	for i := range fds {
		var err error
		if fds[i], err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
			return 0, err
		}
		defer unix.Close(fds[i])
	}
	one := []byte{1, 0, 0, 0, 0, 0, 0, 0}
	pass := func(wait, wake int, first bool) error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		buf := make([]byte, 8)
		for range n {
			if first {
				if _, err := unix.Write(wake, one); err != nil {
					return err
				}
			}
			if _, err := unix.Read(wait, buf); err != nil {
				return err
			}
			if !first {
				if _, err := unix.Write(wake, one); err != nil {
					return err
				}
			}
		}
		return nil
	}
	other := make(chan error, 1)
	begin := time.Now()
	go func() { other <- pass(fds[0], fds[1], false) }()
	if err := pass(fds[1], fds[0], true); err != nil {
		return 0, err
	}
	return time.Since(begin), <-other
}
