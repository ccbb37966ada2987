package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"storeboot/internal/bootproto"
	"storeboot/internal/cli"
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/control"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storeaddr"
	"storeboot/virtiofsd/storefs"
	"storeboot/virtiofsd/vhostuser"
)

// requestQueues is how many request queues a VM may have, besides the one for
// requests of high priority.
const requestQueues = 64

type serveOptions struct {
	addresses    storeaddr.Addresses
	socketPath   string
	fd           int
	eventFD      int
	progressFD   int
	require      []string
	once         bool
	most         int
	metrics      string
	useDaemon    string
	sandbox      sandboxFlags
	capabilities bool
	logLevel     string
	logJSON      bool
	fs           fsFlags
	view         *storefs.View // instead of what fs says, unless nil
}

func newServeCommand() *cobra.Command {
	o := &serveOptions{}
	c := &cobra.Command{
		Use:   "serve --socket-path SOCK",
		Short: "Serve the store to VMs over vhost-user virtio-fs",
		Long: `serve makes a vhost-user socket to which VMMs connect, and serves the store to
their guests as a read-only virtio-fs. Any number of VMs may connect, one after
another and at once; a VM that reboots, ends or is killed does not end the
daemon. SIGTERM does, and removes the socket.

The store's root lists the store paths; a guest mounts it at /nix/store. With
--closure it has these paths and what they refer to alone: one VM sees nothing of
another's, and a guest that has seen all of it once never asks again.

Inode numbers follow from what is stored: a daemon that was killed and started
again goes on where it was, and so does the guest of a VMM that connects again.

It keeps to the conventions of vhost-user back ends (--socket-path, --fd,
--print-capabilities) and systemd's socket activation and readiness.`,
		Example: `  virtiofsd serve --socket-path /run/store.sock

  qemu-system-x86_64 ... \
    -object memory-backend-memfd,id=mem,size=512M,share=on -machine memory-backend=mem \
    -chardev socket,id=store,path=/run/store.sock \
    -device vhost-user-fs-pci,chardev=store,tag=tvix,queue-size=1024

  virtiofsd serve --socket-path /run/vm1.sock --closure /nix/store/HASH-system --metrics :9100

  cloud-hypervisor ... --memory size=512M,shared=on \
    --fs tag=tvix,socket=/run/store.sock,num_queues=1,queue_size=1024`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return serve(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	o.addresses.AddReadFlags(f, true)
	o.fs.add(f)
	f.StringVar(&o.socketPath, "socket-path", "", "make the listening socket at this `PATH` (mode 0600, at most 107 bytes)")
	f.IntVar(&o.fd, "fd", -1, "take this inherited descriptor `N` for the listening socket")
	f.IntVar(&o.eventFD, "event-fd", -1, "write events as lines of JSON to this inherited descriptor `N`: ready, connected, mounted, report, disconnected")
	f.IntVar(&o.progressFD, "progress-fd", -1, "write what the substituters fetch as lines of JSON to this inherited descriptor `N`: pathsKnown, pathsDone, pathsFailed, bytesKnown, bytesDone, requests, active")
	f.StringArrayVar(&o.require, "require", nil, "fail at once unless this store `PATH` is in the store (may be repeated)")
	f.IntVar(&o.most, "max-connections", 0, "let at most `N` VMMs connect at once; 0: any number")
	f.StringVar(&o.metrics, "metrics", "", metricsHelp)
	f.StringVar(&o.useDaemon, "use-daemon", "no", "let a running 'virtiofsd daemon' that has the same store serve in our place, with what it has cached: `auto`, no, or the path of its control socket")
	o.sandbox.add(f)
	f.BoolVar(&o.once, "once", false, "end after the first VM has gone")
	f.BoolVar(&o.capabilities, "print-capabilities", false, "print what this back end can, as JSON, and exit (vhost-user back end convention)")
	f.StringVar(&o.logLevel, "log-level", "info", "least `LEVEL` that is logged to standard error: debug, info, warn or error")
	f.BoolVar(&o.logJSON, "log-json", false, "log lines of JSON")
	return c
}

func serve(ctx context.Context, o *serveOptions, stdout, stderr io.Writer) error {
	if o.capabilities {
		_, err := io.WriteString(stdout, "{\n  \"type\": \"fs\"\n}\n")
		return err
	}
	log, err := newLogger(stderr, o.logLevel, o.logJSON)
	if err != nil {
		return err
	}
	// go-fuse writes some of a guest's mistakes to the standard logger; a guest
	// must not be able to fill the log.
	stdlog.SetOutput(slog.NewLogLogger(log.Handler(), slog.LevelDebug).Writer())
	if o.most < 0 {
		return cli.Usagef("--max-connections %d: want a number", o.most)
	}
	events, err := openEvents(o.eventFD)
	if err != nil {
		return err
	}
	defer events.close()
	listener, err := listen(o)
	if err != nil {
		return err
	}
	defer listener.Close()
	if done, err := o.attach(ctx, listener, events, log); done || err != nil {
		return err
	}
	o.addresses.Log = log
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return err
	}
	defer store.Close()
	endProgress, err := startProgress(ctx, o.progressFD, store, log)
	if err != nil {
		return err
	}
	defer endProgress()
	if err := requirePaths(ctx, store, o.require); err != nil {
		return err
	}
	fs, err := o.fs.open(ctx, store, log, o.view)
	if err != nil {
		return err
	}
	defer fs.Close()
	endMetrics, err := serveMetrics(o.metrics, func() []served { return []served{{o.socketPath, fs}} }, log)
	if err != nil {
		return err
	}
	defer endMetrics()
	if err := o.sandbox.enter(o.addresses, log, o.socketPath, o.metrics); err != nil {
		return err
	}
	events.send(bootproto.Event{Kind: bootproto.EventReady})
	if o.socketPath != "" {
		log.Info("listening", "socket", o.socketPath)
	}
	notifyReady(log)
	s := &server{fs: fs, events: events, log: log, once: o.once, most: int64(o.most)}
	return s.run(ctx, listener)
}

// notifyReady tells systemd, if that has started us, that we serve.
func notifyReady(log *slog.Logger) {
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("tell systemd that the daemon is ready", "error", err)
	}
}

// attach lets a daemon serve in our place, if the flags say so and there is one.
func (o *serveOptions) attach(ctx context.Context, l *net.UnixListener, events *eventWriter, log *slog.Logger) (done bool, err error) {
	path := o.useDaemon
	switch path {
	case "no":
		return false, nil
	case "auto":
		path = defaultControl()
	}
	// What is fetched is told to who started us, which a daemon does not.
	if path == "" || o.progressFD >= 0 || o.view != nil || o.metrics != "" {
		return false, nil
	}
	v := &o.fs.view
	if _, err := v.view(); err != nil {
		return false, err
	}
	return attach(ctx, path, &control.Request{
		Op: control.OpAttach, Store: storeName(o.addresses), Require: o.require,
		Socket: &control.Socket{
			Path: o.socketPath, Closure: v.closure, Xattr: v.xattr, RootTTL: v.rootTTL,
			MaxConnections: o.most, Once: o.once,
		},
	}, l, events, log)
}

// listen makes or takes over the listening socket: that of the flags, or the one
// that systemd passes.
func listen(o *serveOptions) (*net.UnixListener, error) {
	switch {
	case o.fd >= 0 && o.socketPath != "":
		return nil, cli.Usagef("--socket-path and --fd: one is enough")
	case o.fd >= 0:
		return vhostuser.ListenFD(o.fd)
	case o.socketPath != "":
		return vhostuser.Listen(o.socketPath)
	}
	passed := activation.Files(true)
	if len(passed) == 0 {
		return nil, cli.Usagef("one of --socket-path and --fd is needed, or a socket of systemd's")
	}
	defer func() {
		for _, f := range passed {
			_ = f.Close()
		}
	}()
	if len(passed) > 1 {
		return nil, fmt.Errorf("systemd passes %d sockets, want one", len(passed))
	}
	fd, err := unix.FcntlInt(passed[0].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket of systemd: %w", err)
	}
	return vhostuser.ListenFD(fd)
}

// requirePaths fails for the first of paths that is not in the store.
func requirePaths(ctx context.Context, store *storeaddr.Store, paths []string) error {
	for _, path := range paths {
		p, _, err := storepath.ParseAbsolute(path)
		if err != nil {
			return cli.Usagef("--require: %w", err)
		}
		info, err := store.PathInfos.Get(ctx, p.Hash)
		switch {
		case errors.Is(err, pathinfo.ErrNotFound) && len(store.Substitutes()) > 0:
			return fmt.Errorf("store path %s is neither in the store nor in %s", p.Absolute(), strings.Join(store.Caches(), ", "))
		case err == nil && info.StorePath != p:
			return fmt.Errorf("store path %s is not in the store, which has %s under its hash", p.Absolute(), info.StorePath.Absolute())
		case errors.Is(err, pathinfo.ErrNotFound):
			return fmt.Errorf("store path %s is not in the store: import it with 'virtiofsd import' or 'virtiofsd copy --from-nix'", p.Absolute())
		case err != nil:
			return err
		}
	}
	return nil
}

// server accepts VMMs.
type server struct {
	fs     *storefs.FS
	events *eventWriter
	log    *slog.Logger
	once   bool
	most   int64 // connections at once; 0: any number

	connections atomic.Int64
}

// run accepts until ctx is done, or with once until the first connection has
// ended, and returns when no connection is left.
func (s *server) run(ctx context.Context, l *net.UnixListener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		conn, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case err != nil: // no descriptors left, say: others end and free some
			s.log.Error("accept", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		wg.Go(func() {
			s.serveConn(ctx, conn)
			if s.once {
				cancel()
			}
		})
	}
}

// serveConn serves one VMM.
func (s *server) serveConn(ctx context.Context, conn *net.UnixConn) {
	n := int(s.connections.Add(1))
	log := s.log.With("connection", n)
	sessions := &s.fs.Stats().Sessions
	defer sessions.Add(-1)
	if now := sessions.Add(1); s.most > 0 && now > s.most {
		log.Warn("refused: there are as many VMMs as may connect", "most", s.most)
		_ = conn.Close()
		return
	}
	s.events.send(bootproto.Event{Kind: bootproto.EventConnected, Connection: n})
	log.Debug("connected")
	events := storefs.Events{
		Mounted: func() { s.events.send(bootproto.Event{Kind: bootproto.EventMounted, Connection: n}) },
	}
	if s.events != nil {
		// Otherwise nobody would take it, and the guest's console is told.
		events.Report = func(r *bootproto.Report) {
			s.events.send(bootproto.Event{Kind: bootproto.EventReport, Connection: n, Report: r})
		}
	}
	session := s.fs.NewSession(events, log)
	if err := vhostuser.NewBackend(conn, session.Device(1+requestQueues), log).Serve(ctx); err != nil {
		log.Error("connection ended", "error", err)
	}
	log.Debug("disconnected")
	gone := bootproto.Event{Kind: bootproto.EventDisconnected, Connection: n}
	if s.once {
		// The view is this VM's alone.
		gone.Requests, gone.ReadBytes = countRequests(s.fs.Stats()), s.fs.Stats().ReadBytes.Load()
	}
	s.events.send(gone)
}

// eventWriter writes events to whoever started us. A nil one writes nothing.
type eventWriter struct {
	mu sync.Mutex
	f  *os.File
}

func openEvents(fd int) (*eventWriter, error) {
	if fd < 0 {
		return nil, nil
	}
	f := os.NewFile(uintptr(fd), "event-fd")
	if _, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("--event-fd %d: %w", fd, err)
	}
	return &eventWriter{f: f}, nil
}

// send writes an event. A reader that has gone is no reason to stop serving.
func (w *eventWriter) send(e bootproto.Event) {
	if w == nil {
		return
	}
	e.UnixMicros = time.Now().UnixMicro()
	line, err := json.Marshal(e)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = w.f.Write(append(line, '\n'))
}

func (w *eventWriter) close() {
	if w != nil {
		_ = w.f.Close()
	}
}
