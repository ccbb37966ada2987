package session

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// highWater is how much output may wait to be taken, in bytes, before the
	// monitor is stopped; at lowWater it goes on.
	highWater = 32 << 20
	lowWater  = 4 << 20
	// punchEvery is after how many bytes the part of a console file that has
	// been taken is given back to the file system.
	punchEvery = 1 << 20
)

// follower copies a console file to a writer while a monitor writes it.
type follower struct {
	file  *os.File
	watch *os.File // inotify
	w     io.Writer
	// pause stops the monitor (true) or lets it go on; called in turns.
	pause func(bool)

	more chan struct{} // a token when the file may have grown
	stop chan struct{} // closed when the monitor has ended
	done chan struct{} // closed when all is copied
	err  error         // of w, valid then
	once sync.Once     // for stop

	mu     sync.Mutex
	copied int64
	paused bool
}

// follow begins to copy the file at path to w.
func follow(path string, w io.Writer, pause func(bool)) (*follower, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("follow console: %w", err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		_ = f.Close()
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	watch := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		_ = f.Close()
		_ = watch.Close()
		return nil, os.NewSyscallError("inotify_add_watch", err)
	}
	o := &follower{
		file: f, watch: watch, w: w, pause: pause,
		more: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go o.watchFile()
	go o.copyFile()
	return o, nil
}

// finish says that nothing will be written any more. done is closed when the
// rest has been copied.
func (o *follower) finish() { o.once.Do(func() { close(o.stop) }) }

// close gives up on what has not been copied yet.
func (o *follower) close() {
	o.finish()
	_ = o.watch.Close()
	_ = o.file.Close()
}

// watchFile wakes the copying, and stops the monitor if it is too far ahead.
// The end of watching is close.
func (o *follower) watchFile() {
	buf := make([]byte, 4096)
	for {
		if _, err := o.watch.Read(buf); err != nil {
			return
		}
		select {
		case o.more <- struct{}{}:
		default:
		}
		o.balance()
	}
}

// balance stops or continues the monitor by what is waiting.
func (o *follower) balance() {
	st, err := o.file.Stat()
	if err != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	waiting := st.Size() - o.copied
	switch {
	case !o.paused && waiting > highWater:
		o.paused = true
		o.pause(true)
	case o.paused && waiting < lowWater:
		o.paused = false
		o.pause(false)
	}
}

func (o *follower) copyFile() {
	defer close(o.done)
	buf := make([]byte, 64<<10)
	last := false
	var punched int64
	for {
		n, err := o.file.Read(buf)
		if n > 0 {
			if _, o.err = o.w.Write(buf[:n]); o.err != nil {
				return
			}
			o.mu.Lock()
			o.copied += int64(n)
			copied, paused := o.copied, o.paused
			o.mu.Unlock()
			if paused {
				o.balance()
			}
			if copied-punched >= punchEvery {
				// Not every file system can; then the file just grows.
				_ = unix.Fallocate(int(o.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, punched, copied-punched)
				punched = copied
			}
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) || last {
			return
		}
		select {
		case <-o.more:
		case <-o.stop:
			last = true // what came before the end is still to be read
		}
	}
}
