package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"storeboot/internal/bootproto"
	"storeboot/virtiofsd/control"
	"storeboot/virtiofsd/storeaddr"
	"storeboot/virtiofsd/storefs"
	"storeboot/virtiofsd/vhostuser"
)

// defaultControl is the control socket of this user's daemon: below
// /run/storeboot for root, else below $XDG_RUNTIME_DIR/storeboot; "" if there is
// no such directory.
func defaultControl() string {
	base := "/run"
	if os.Geteuid() != 0 {
		if base = os.Getenv("XDG_RUNTIME_DIR"); !filepath.IsAbs(base) {
			return ""
		}
	} else if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		base = dir
	}
	return filepath.Join(base, "storeboot", "virtiofsd.control")
}

// listenControl makes the control socket. path may be "auto": the default, which
// the daemon does without if it cannot be made.
func listenControl(path string, log *slog.Logger) (*net.UnixListener, error) {
	auto := path == "auto"
	if auto {
		path = defaultControl()
	}
	if path == "" {
		return nil, nil
	}
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	var l *net.UnixListener
	if err == nil {
		l, err = vhostuser.Listen(path)
	}
	if err != nil && auto {
		log.Warn("there will be no control socket", "error", err)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--control: %w", err)
	}
	return l, nil
}

// storeName says which store addresses stand for, so that two processes can find
// out that they mean the same.
func storeName(a storeaddr.Addresses) string {
	a.Log = nil
	if dir, err := filepath.Abs(a.Dir); err == nil {
		a.Dir = dir
	}
	b, err := json.Marshal(a)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// socketTable is the vhost-user sockets of a daemon, which share its caches.
type socketTable struct {
	ctx   context.Context // done when the daemon ends
	fs    *storefs.FS     // the whole store
	store *storeaddr.Store
	name  string // of the store, as storeName has it
	log   *slog.Logger

	running sync.WaitGroup
	mu      sync.Mutex
	last    int
	sockets map[string]*openSocket // by name
}

// openSocket is one socket of the table.
type openSocket struct {
	control.Socket
	fs     *storefs.FS
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing of it is left
}

func newSocketTable(ctx context.Context, fs *storefs.FS, store *storeaddr.Store, name string, log *slog.Logger) *socketTable {
	return &socketTable{ctx: ctx, fs: fs, store: store, name: name, log: log, sockets: map[string]*openSocket{}}
}

// maxSockets bounds the sockets of a daemon.
const maxSockets = 4096

// views are the views of all sockets, by name.
func (t *socketTable) views() []served {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []served
	for _, name := range slices.Sorted(maps.Keys(t.sockets)) {
		out = append(out, served{name, t.sockets[name].fs})
	}
	if len(out) == 0 {
		out = append(out, served{"", t.fs})
	}
	return out
}

// add makes a socket of a listener, which it closes at the end of the socket. It
// removes the file of the socket then, unless that is to be kept.
func (t *socketTable) add(ctx context.Context, s control.Socket, l *net.UnixListener, events *eventWriter, require []string, keep bool) (*openSocket, error) {
	flags := viewFlags{closure: s.Closure, xattr: s.Xattr, rootTTL: s.RootTTL}
	v, err := flags.view()
	if err != nil {
		return nil, err
	}
	if s.MaxConnections < 0 {
		return nil, fmt.Errorf("at most %d connections: want a number", s.MaxConnections)
	}
	if len(s.Name) > 255 || strings.ContainsAny(s.Name, "/\n\x00") {
		return nil, fmt.Errorf("the name %q has more than 255 bytes, or a slash", s.Name)
	}
	if err := requirePaths(ctx, t.store, require); err != nil {
		return nil, err
	}
	view, err := t.fs.View(ctx, v)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(t.ctx)
	o := &openSocket{Socket: s, fs: view, cancel: cancel, done: make(chan struct{})}
	o.Created = time.Now().UTC()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.ctx.Err() != nil:
		err = errors.New("the daemon is ending")
	case len(t.sockets) >= maxSockets:
		err = fmt.Errorf("there are %d sockets, which is the most", maxSockets)
	case o.Name != "" && t.sockets[o.Name] != nil:
		err = fmt.Errorf("there is a socket %q already: remove it or choose another name", o.Name)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	for o.Name == "" {
		t.last++
		if name := strconv.Itoa(t.last); t.sockets[name] == nil {
			o.Name = name
		}
	}
	t.sockets[o.Name] = o
	t.running.Go(func() {
		defer close(o.done)
		defer cancel()
		log := t.log.With("socket", o.Name)
		log.Info("socket made", "path", o.Path, "closure", o.Closure)
		srv := &server{fs: view, events: events, log: log, once: o.Once, most: int64(o.MaxConnections)}
		if err := srv.run(ctx, l); err != nil {
			log.Error("socket", "error", err)
		}
		if o.Path != "" && !keep {
			_ = os.Remove(o.Path) // it may not be ours to remove
		}
		t.mu.Lock()
		delete(t.sockets, o.Name)
		t.mu.Unlock()
		log.Info("socket removed")
	})
	return o, nil
}

// find finds a socket by its name or path.
func (t *socketTable) find(name string) *openSocket {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.sockets[name]; o != nil || name == "" {
		return o
	}
	for _, o := range t.sockets {
		if o.Path == name {
			return o
		}
	}
	return nil
}

func (t *socketTable) list() []control.Socket {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []control.Socket{}
	for _, name := range slices.Sorted(maps.Keys(t.sockets)) {
		list = append(list, t.sockets[name].now())
	}
	return list
}

// now is the socket with what its guests have done so far.
func (o *openSocket) now() control.Socket {
	s := o.Socket
	s.Connections, s.Requests, s.ReadBytes = o.fs.Stats().Sessions.Load(), o.fs.Stats().Total(), o.fs.Stats().ReadBytes.Load()
	return s
}

// serve accepts clients of the control socket until l is closed.
func (t *socketTable) serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		switch {
		case t.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if err == nil {
				_ = c.Close()
			}
			return nil
		case err != nil:
			t.log.Error("accept on the control socket", "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		t.running.Go(func() { t.client(c.(*net.UnixConn)) })
	}
}

// client serves one client of the control socket.
func (t *socketTable) client(c *net.UnixConn) {
	defer c.Close()
	r, files, err := control.Receive(c)
	var events *eventWriter
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
		events.close()
	}()
	if err != nil {
		_ = control.Send(c, &control.Answer{Error: err.Error()})
		return
	}
	if r.Op == control.OpAttach && len(files) > 1 {
		events, files = &eventWriter{f: files[1]}, files[:1]
	}
	a, o := t.do(r, files, events)
	t.log.Debug("control", "op", r.Op, "error", a.Error)
	if err := control.Send(c, a); err != nil && o != nil {
		o.cancel()
	}
	if o == nil || r.Op != control.OpAttach {
		return
	}
	defer context.AfterFunc(t.ctx, func() { _ = c.Close() })()
	go func() { // the end of the client is that of the socket
		_, _ = io.Copy(io.Discard, c)
		o.cancel()
	}()
	<-o.done
	if t.ctx.Err() == nil {
		_ = control.Send(c, &control.Answer{}) // it ended by itself
	}
}

// do does what a client wants. For a socket that was made it returns that too.
func (t *socketTable) do(r *control.Request, files []*os.File, events *eventWriter) (*control.Answer, *openSocket) {
	fail := func(err error) (*control.Answer, *openSocket) { return &control.Answer{Error: err.Error()}, nil }
	if r.Store != "" && r.Store != t.name || r.Op == control.OpAttach && r.Store == "" {
		return fail(errors.New("the daemon serves another store"))
	}
	switch r.Op {
	case control.OpList:
		return &control.Answer{Sockets: t.list()}, nil
	case control.OpRemove:
		if r.Socket == nil {
			return fail(errors.New("which socket?"))
		}
		o := t.find(cmpName(r.Socket))
		if o == nil {
			return fail(fmt.Errorf("there is no socket %q: 'virtiofsd socket list' names them", cmpName(r.Socket)))
		}
		o.cancel()
		<-o.done
		return &control.Answer{Sockets: []control.Socket{o.now()}}, nil
	case control.OpCreate, control.OpAttach:
		if r.Socket == nil || len(files) != 1 {
			return fail(fmt.Errorf("%d listening sockets came with the request, want one", len(files)))
		}
		fl, err := net.FileListener(files[0])
		if err != nil {
			return fail(fmt.Errorf("what came with the request is no listening socket: %w", err))
		}
		l, ok := fl.(*net.UnixListener)
		if !ok {
			_ = fl.Close()
			return fail(errors.New("what came with the request is no unix socket"))
		}
		l.SetUnlinkOnClose(false)
		ctx, cancel := context.WithTimeout(t.ctx, control.Wait)
		defer cancel()
		o, err := t.add(ctx, *r.Socket, l, events, r.Require, r.Op == control.OpAttach)
		if err != nil {
			_ = l.Close()
			return fail(err)
		}
		events.send(bootproto.Event{Kind: bootproto.EventReady})
		return &control.Answer{Sockets: []control.Socket{o.now()}}, o
	}
	return fail(fmt.Errorf("the operation %q is not known", r.Op))
}

func cmpName(s *control.Socket) string {
	if s.Name != "" {
		return s.Name
	}
	return s.Path
}

// shutdown ends all sockets and waits for their guests' requests.
func (t *socketTable) shutdown(context.Context) {
	t.mu.Lock()
	for _, o := range t.sockets {
		o.cancel()
	}
	t.mu.Unlock()
	t.running.Wait()
}

// service is the control socket as a part of the daemon.
func (t *socketTable) service(l *net.UnixListener) service {
	return service{
		name: "control", listeners: []net.Listener{l},
		serve:    t.serve,
		shutdown: func(ctx context.Context) { _ = l.Close(); t.shutdown(ctx) },
	}
}

// attach lets a running daemon serve l, and waits until that has ended. done is
// false if there is no daemon for that store, or it died: the caller then serves
// by itself.
func attach(ctx context.Context, path string, r *control.Request, l *net.UnixListener, events *eventWriter, log *slog.Logger) (done bool, err error) {
	c, err := control.Dial(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			log.Debug("no daemon", "control", path, "error", err)
		}
		return false, nil
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	f, err := l.File()
	if err != nil {
		return false, err
	}
	files := []*os.File{f}
	if events != nil {
		files = append(files, events.f)
	}
	_, err = control.Do(c, r, files...)
	_ = f.Close()
	var refused *control.Error
	switch {
	case errors.As(err, &refused):
		log.Info("the daemon does not take this VM", "control", path, "reason", refused.Text)
		return false, nil
	case ctx.Err() != nil:
		return true, nil
	case err != nil:
		log.Info("the daemon does not answer", "control", path, "error", err)
		return false, nil
	}
	log.Info("served by the daemon", "control", path)
	n, _ := io.Copy(io.Discard, c) // until the socket has ended, or the daemon
	if n == 0 && ctx.Err() == nil {
		log.Warn("the daemon has ended: serving in its place", "control", path)
		return false, nil
	}
	return true, nil
}
