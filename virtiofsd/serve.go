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

	"github.com/spf13/cobra"

	"storeboot/internal/bootproto"
	"storeboot/internal/cli"
	"storeboot/internal/storepath"
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
	capabilities bool
	logLevel     string
	logJSON      bool
	view         storefs.View
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

The store's root lists the store paths; a guest mounts it at /nix/store.`,
		Example: `  virtiofsd serve --socket-path /run/store.sock

  qemu-system-x86_64 ... \
    -object memory-backend-memfd,id=mem,size=512M,share=on -machine memory-backend=mem \
    -chardev socket,id=store,path=/run/store.sock \
    -device vhost-user-fs-pci,chardev=store,tag=tvix,queue-size=1024

  cloud-hypervisor ... --memory size=512M,shared=on \
    --fs tag=tvix,socket=/run/store.sock,num_queues=1,queue_size=1024`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return serve(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	o.addresses.AddReadFlags(f, true)
	f.StringVar(&o.socketPath, "socket-path", "", "make the listening socket at this `PATH` (mode 0600, at most 107 bytes)")
	f.IntVar(&o.fd, "fd", -1, "take this inherited descriptor `N` for the listening socket")
	f.IntVar(&o.eventFD, "event-fd", -1, "write events as lines of JSON to this inherited descriptor `N`: ready, connected, mounted, report, disconnected")
	f.IntVar(&o.progressFD, "progress-fd", -1, "write what the substituters fetch as lines of JSON to this inherited descriptor `N`: pathsKnown, pathsDone, pathsFailed, bytesKnown, bytesDone, requests, active")
	f.StringArrayVar(&o.require, "require", nil, "fail at once unless this store `PATH` is in the store (may be repeated)")
	f.BoolVar(&o.once, "once", false, "end after the first VM has gone")
	f.BoolVar(&o.capabilities, "print-capabilities", false, "print what this back end can, as JSON, and exit (vhost-user back end convention)")
	f.StringVar(&o.logLevel, "log-level", "info", "least `LEVEL` that is logged to standard error: debug, info, warn or error")
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
	if (o.socketPath == "") == (o.fd < 0) {
		return cli.Usagef("one of --socket-path and --fd is needed")
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
	fs := storefs.New(storefs.Store{Blobs: store.Blobs, Directories: store.Directories, PathInfos: store.PathInfos}, log)
	fs.Show(o.view)
	defer fs.Close()
	events.send(bootproto.Event{Kind: bootproto.EventReady})
	if o.socketPath != "" {
		log.Info("listening", "socket", o.socketPath)
	}
	s := &server{fs: fs, events: events, log: log, once: o.once}
	return s.run(ctx, listener)
}

// listen makes or takes over the listening socket.
func listen(o *serveOptions) (*net.UnixListener, error) {
	if o.fd >= 0 {
		return vhostuser.ListenFD(o.fd)
	}
	return vhostuser.Listen(o.socketPath)
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
	s.events.send(bootproto.Event{Kind: bootproto.EventDisconnected, Connection: n})
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
