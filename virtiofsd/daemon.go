package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"time"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/proto/wire"
	"storeboot/virtiofsd/storeaddr"
)

type daemonOptions struct {
	addresses  storeaddr.Addresses
	listen     string
	tlsCert    string
	tlsKey     string
	tokenFile  string
	narBridge  string
	maxMessage cli.Size
	maxBlob    cli.Size
	uploads    cli.Size
	uploadTime time.Duration
	maxConns   int
	idle       time.Duration
	grace      time.Duration
	logLevel   string
	logJSON    bool
	control    string
	metrics    string
	fs         fsFlags
	sandbox    sandboxFlags

	controlPath string // of the control socket that there is
}

func defaultDaemonOptions() *daemonOptions {
	return &daemonOptions{
		maxMessage: wire.MaxMessage, maxBlob: 1 << 40, uploads: 1 << 30, uploadTime: 6 * time.Hour, maxConns: 1024,
		idle: 2 * time.Minute, grace: 30 * time.Second,
	}
}

func newDaemonCommand() *cobra.Command {
	o := defaultDaemonOptions()
	c := &cobra.Command{
		Use:   "daemon",
		Short: "Serve the store to programs over gRPC, and to VMs",
		Long: `daemon serves the store over gRPC, to virtiofsd and to the programs of tvix and
snix: blobs, directories and path infos under the names of both, with health and
reflection. With --control it also serves VMs over virtio-fs, any number of them
from the same caches: 'virtiofsd socket' makes and removes their sockets while it
runs, and the launcher takes such a daemon instead of one of its own.

Whoever can connect may read and write the store: by default that are programs
of this machine. A daemon that listens on other addresses should have a token,
and TLS so that the token and the store's contents stay secret.

SIGTERM lets calls that are under way end, for as long as --grace says.`,
		Example: `  virtiofsd daemon -l /run/store.sock
  BLOB_SERVICE_ADDR=grpc+unix:///run/store.sock DIRECTORY_SERVICE_ADDR=grpc+unix:///run/store.sock \
    PATH_INFO_SERVICE_ADDR=grpc+unix:///run/store.sock virtiofsd list

  virtiofsd daemon -l 192.0.2.1:8000 --tls-cert cert.pem --tls-key key.pem --token-file token
  BLOB_SERVICE_ADDR='grpc+https://store.example:8000?token-file=token' ...`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), c.ErrOrStderr()) },
	}
	f := c.Flags()
	o.addresses.AddReadFlags(f, true)
	f.StringVarP(&o.listen, "listen-address", "l", ":8000", "listen on this `ADDR`: IP:PORT, :PORT (loopback only), /PATH (mode 0600), @NAME, sd-listen, sd-listen:NAME or sd-listen:*")
	f.StringVar(&o.tlsCert, "tls-cert", "", "serve TLS with the certificates in this PEM `FILE`")
	f.StringVar(&o.tlsKey, "tls-key", "", "the private key of the certificate, a PEM `FILE`")
	f.StringVar(&o.tokenFile, "token-file", "", "refuse callers who do not send the bearer token in this `FILE`")
	f.StringVar(&o.narBridge, "nar-bridge", "", "also serve the store as a Nix binary cache over HTTP at this `ADDR`, with the same token (for writing) and certificate; 'virtiofsd nar-bridge' has more flags")
	f.Var(&o.maxMessage, "max-message", "accept messages of at most this `SIZE`, in bytes or as 16M, say for huge directories")
	f.Var(&o.maxBlob, "max-blob", "accept blobs of at most this `SIZE`")
	f.Var(&o.uploads, "upload-memory", "let the directories of all uploads under way take this `SIZE` of memory, and of one upload half of it; further uploads are refused")
	f.DurationVar(&o.uploadTime, "upload-time", o.uploadTime, "let an upload of directories take this `TIME`")
	f.IntVar(&o.maxConns, "max-connections", o.maxConns, "serve this `NUMBER` of connections at once; further ones wait")
	f.DurationVar(&o.idle, "idle", o.idle, "end a call whose peer sends and takes nothing for this `TIME`")
	f.DurationVar(&o.grace, "grace", o.grace, "let calls under way end for this `TIME` on SIGTERM")
	f.StringVar(&o.control, "control", "", "take requests of 'virtiofsd socket' and 'virtiofsd serve --use-daemon' at this `PATH`, and serve VMs; auto: "+orNone(defaultControl())+", or none if that cannot be made; \"\": none")
	f.DurationVar(&o.fs.readTimeout, "read-timeout", 2*time.Minute, "let a guest's read fail (EIO) that has waited for a store far away for this `TIME`")
	f.StringVar(&o.metrics, "metrics", "", metricsHelp)
	o.sandbox.add(f)
	f.BoolVar(&o.logJSON, "log-json", false, "log lines of JSON")
	f.StringVar(&o.logLevel, "log-level", "info", "least `LEVEL` that is logged to standard error: debug, info, warn or error")
	return c
}

// serverOptions checks the flags and reads the files that they name.
func (o *daemonOptions) serverOptions(stderr io.Writer) (grpcserver.Options, error) {
	var none grpcserver.Options
	log, err := newLogger(stderr, o.logLevel, o.logJSON)
	if err != nil {
		return none, err
	}
	switch {
	case o.maxMessage > math.MaxInt32: // the length of a gRPC message has 32 bits
		return none, cli.Usagef("--max-message %s: want less than 2G", o.maxMessage.String())
	case o.uploadTime <= 0:
		return none, cli.Usagef("--upload-time %v: want a time above 0", o.uploadTime)
	case o.maxConns <= 0:
		return none, cli.Usagef("--max-connections %d: want a number above 0", o.maxConns)
	case o.idle <= 0:
		return none, cli.Usagef("--idle %v: want a time above 0", o.idle)
	case o.grace < 0:
		return none, cli.Usagef("--grace %v: want a time", o.grace)
	}
	s := grpcserver.Options{
		Log:            log,
		MaxMessage:     int(o.maxMessage),
		MaxBlob:        int64(o.maxBlob),
		UploadMemory:   int64(o.uploads),
		UploadTime:     o.uploadTime,
		MaxConnections: o.maxConns,
		Idle:           o.idle,
	}
	if s.TLS, err = readCertificate(o.tlsCert, o.tlsKey); err != nil {
		return none, err
	}
	if s.Token, err = readToken(o.tokenFile); err != nil {
		return none, err
	}
	return s, nil
}

func (o *daemonOptions) run(ctx context.Context, stderr io.Writer) error {
	options, err := o.serverOptions(stderr)
	if err != nil {
		return err
	}
	listeners, err := grpcserver.Listen(o.listen)
	if err != nil {
		return err
	}
	defer closeListeners(listeners)
	o.addresses.Log = options.Log
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return err
	}
	endProgress, err := startProgress(ctx, -1, store, options.Log)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	defer endProgress()
	guests, endGuests, err := o.openGuests(ctx, store, options.Log)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	defer endGuests()
	err = o.serveBoth(ctx, store, guests, grpcserver.New(store.Blobs, store.Directories, store.PathInfos, options), listeners, options)
	// What was reported as stored is flushed; the rest belongs to calls that
	// have failed or that ask for a flush and will not get one.
	return errors.Join(err, store.Close())
}

// openGuests makes what serves VMs: nothing without a control socket.
func (o *daemonOptions) openGuests(ctx context.Context, store *storeaddr.Store, log *slog.Logger) (guests []service, end func(), err error) {
	l, err := listenControl(o.control, log)
	if err != nil {
		return nil, nil, err
	}
	fs, err := o.fs.open(ctx, store, log, nil)
	if err != nil {
		return nil, nil, errors.Join(err, closeControl(l))
	}
	table := newSocketTable(ctx, fs, store, storeName(o.addresses), log)
	endMetrics, err := serveMetrics(o.metrics, table.views, log)
	if err != nil {
		fs.Close()
		return nil, nil, errors.Join(err, closeControl(l))
	}
	end = func() { endMetrics(); fs.Close() }
	if l != nil {
		o.controlPath = l.Addr().String()
		guests = append(guests, table.service(l))
	}
	return guests, end, nil
}

func closeControl(l *net.UnixListener) error {
	if l == nil {
		return nil
	}
	return l.Close()
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// serve serves until ctx is done or a listener fails, and more with it.
func (o *daemonOptions) serve(ctx context.Context, s *grpcserver.Server, listeners []net.Listener, options grpcserver.Options, more ...service) error {
	if err := o.sandbox.enter(o.addresses, options.Log, o.listen, o.narBridge, o.metrics, o.controlPath); err != nil {
		return err
	}
	warning := ""
	if options.Token == "" || options.TLS == nil {
		warning = "other machines may be able to connect: set --token-file, --tls-cert and --tls-key"
	}
	grpc := service{
		name: "gRPC", listeners: listeners, publicWarning: warning, shutdown: s.Shutdown,
		serve: s.Serve,
	}
	return serveAll(ctx, options.Log, o.grace, append([]service{grpc}, more...)...)
}

// serveBoth serves as serve does, and with --nar-bridge as a binary cache too.
func (o *daemonOptions) serveBoth(ctx context.Context, store *storeaddr.Store, guests []service, s *grpcserver.Server, listeners []net.Listener, options grpcserver.Options) error {
	if o.narBridge == "" {
		return o.serve(ctx, s, listeners, options, guests...)
	}
	also, err := grpcserver.Listen(o.narBridge)
	if err != nil {
		return err
	}
	defer closeListeners(also)
	b := defaultBridgeOptions()
	n, err := b.parse(options.Log)
	if err != nil {
		return err
	}
	n.Token, n.TLS = options.Token, options.TLS
	bridge, closeBridge, err := newBridge(store, o.addresses, &b, n, also)
	if err != nil {
		return err
	}
	return errors.Join(o.serve(ctx, s, listeners, options, append(guests, bridge)...), closeBridge())
}
