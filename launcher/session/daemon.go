package session

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"storeboot/internal/bootproto"
	"storeboot/launcher/rundir"
	"storeboot/launcher/timeline"
	"storeboot/launcher/vmm"
)

// daemonName is the name of the store daemon in messages.
const daemonName = "virtiofsd"

// maxEvent bounds one event of the store daemon, in bytes: an exit report whose
// every character is escaped.
const maxEvent = 8*bootproto.MaxReport + 4096

// daemon is the running store daemon.
type daemon struct {
	*process
	ready  chan struct{}             // closed at the event of that name
	report chan struct{}             // a token when a report has come
	drain  chan struct{}             // closed when all events have been read
	now    func(bootproto.EventKind) // told of each event

	mu   sync.Mutex
	last *bootproto.Report
	gone *bootproto.Event // the first EventDisconnected
	seen map[bootproto.EventKind]bool
	err  error // of the event stream
}

// DaemonCommand is the store daemon for one VM: the socket is descriptor 3,
// events go to descriptor 4 and, if it fetches, its progress to 5. A running
// daemon that has the same store serves in its place.
func DaemonCommand(c vmm.Command, fetches bool) vmm.Command {
	args := []string{"serve", "--fd", "3", "--event-fd", "4", "--once", "--use-daemon", "auto"}
	if fetches {
		args = append(args, "--progress-fd", "5")
	}
	c.Args = append(args, c.Args...)
	return c
}

// startDaemon makes the socket in dir, already listening, and starts the store
// daemon with it.
func (s *spawner) startDaemon(c *Config, dir rundir.Dir, now func(bootproto.EventKind)) (*daemon, error) {
	if c.Foreign != nil {
		return s.startForeign(c, dir, now)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir.Socket(), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make store socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	sock, err := l.File()
	_ = l.Close()
	if err != nil {
		return nil, fmt.Errorf("make store socket: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		_ = sock.Close()
		return nil, fmt.Errorf("make event pipe: %w", err)
	}
	files := []*os.File{sock, w}
	if c.Fetched != nil {
		progress, theirs, err := os.Pipe()
		if err != nil {
			_, _, _ = sock.Close(), r.Close(), w.Close()
			return nil, fmt.Errorf("make progress pipe: %w", err)
		}
		files = append(files, theirs)
		go readProgress(progress, c.Fetched)
	}
	p, err := s.start(daemonName, DaemonCommand(c.Daemon, c.Fetched != nil), nil, c.ErrOut, files...)
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	d := &daemon{
		process: p, now: now, seen: map[bootproto.EventKind]bool{},
		ready: make(chan struct{}), report: make(chan struct{}, 1), drain: make(chan struct{}),
	}
	go d.read(r)
	return d, nil
}

// read takes the events until the daemon has closed its end.
func (d *daemon) read(r *os.File) {
	defer close(d.drain)
	defer r.Close()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		e, err := bootproto.ParseEvent(lines.Bytes())
		if err != nil {
			d.fail(err)
			continue
		}
		d.take(e)
	}
	if err := lines.Err(); err != nil {
		d.fail(fmt.Errorf("store daemon events: %w", err))
		// It must not wait for us.
		_, _ = io.Copy(io.Discard, r)
	}
}

func (d *daemon) take(e *bootproto.Event) {
	d.mu.Lock()
	first := !d.seen[e.Kind]
	d.seen[e.Kind] = true
	if e.Kind == bootproto.EventReport && e.Report != nil {
		d.last = e.Report
	}
	if e.Kind == bootproto.EventDisconnected && first {
		d.gone = e
	}
	d.mu.Unlock()
	if first && d.now != nil {
		d.now(e.Kind)
	}
	switch {
	case e.Kind == bootproto.EventReady && first:
		close(d.ready)
	case e.Kind == bootproto.EventReport:
		select {
		case d.report <- struct{}{}:
		default:
		}
	}
}

func (d *daemon) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
	}
}

// failed is what was wrong with the events so far.
func (d *daemon) failed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// lastReport is the guest's exit report so far.
func (d *daemon) lastReport() *bootproto.Report {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// requests are what the guest asked of the store, once it has gone.
func (d *daemon) requests() (list []timeline.Requests, readBytes uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone == nil {
		return nil, 0
	}
	for _, q := range d.gone.Requests {
		list = append(list, timeline.Requests{Opcode: printable(q.Opcode), Count: q.Count, Errors: q.Errors, Took: q.Micros})
	}
	return list, d.gone.ReadBytes
}

// has says whether there was an event of that kind.
func (d *daemon) has(kind bootproto.EventKind) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen[kind]
}

// waitReady waits until the daemon serves, with a limit.
func (d *daemon) waitReady(cancel <-chan struct{}, limit time.Duration) error {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-d.ready:
		return nil
	case <-d.done:
		<-d.drain
		return d.failure()
	case <-cancel:
		return errCanceled
	case <-t.C:
		line := ""
		if s := d.errors.lastLine(); s != "" {
			line = ": " + strings.TrimPrefix(s, d.name+": ")
		}
		return fmt.Errorf("%s is not ready after %v%s", d.name, limit, line)
	}
}

// errCanceled means that something else ended the session.
var errCanceled = errors.New("canceled")
