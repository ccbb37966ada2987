package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/narbridge"
	"storeboot/virtiofsd/storeaddr"
)

type narBridgeOptions struct {
	addresses storeaddr.Addresses
	bridge    bridgeOptions
	listen    string
	tlsCert   string
	tlsKey    string
	tokenFile string
	grace     time.Duration
	logLevel  string
	logJSON   bool
}

func newNarBridgeCommand() *cobra.Command {
	o := &narBridgeOptions{}
	c := &cobra.Command{
		Use:   "nar-bridge",
		Short: "Serve the store as a Nix binary cache over HTTP",
		Long: `nar-bridge serves the store as a Nix binary cache over HTTP: 'nix copy' puts
closures in and gets them out, and Nix substitutes from it.

NARs may be uploaded plain or compressed with zstd, xz, gzip, bzip2, br, lz4 or
lzip. What is uploaded is checked: hashes, sizes, content addresses, references, and with
--require-signature who signed it. A NAR waits for its narinfo in a table on the
disk, so that a restart between the two does no harm.

It listens on the loopback addresses alone unless --listen-address says otherwise,
and whoever can connect may read. Whoever can connect may write too, unless there
is a token (--auth-token-file): then writers need it, as the password of a netrc
file ("machine HOST login any password TOKEN", option netrc-file of Nix) or as a
bearer token.

Metrics for Prometheus are at /metrics, listings at /HASH.ls. SIGTERM lets requests
that are under way end, for as long as --grace says.`,
		Example: `  virtiofsd nar-bridge -l :9000
  nix copy --to 'http://localhost:9000?compression=none' /nix/store/HASH-hello
  nix copy --from http://localhost:9000 --no-check-sigs /nix/store/HASH-hello

  virtiofsd nar-bridge -l 192.0.2.1:9000 --auth-token-file token --signing-key cache.sec`,
		Args:    cli.NoArgs,
		PreRunE: func(c *cobra.Command, _ []string) error { return fromEnv(c, map[string]string{"priority": "PRIORITY"}) },
		RunE:    func(c *cobra.Command, _ []string) error { return o.run(c.Context(), c.ErrOrStderr()) },
	}
	f := c.Flags()
	o.addresses.AddFlags(f)
	f.StringVarP(&o.listen, "listen-address", "l", ":9000", "listen on this `ADDR`: IP:PORT, :PORT (loopback only), /PATH (mode 0600), @NAME, sd-listen, sd-listen:NAME or sd-listen:*")
	o.bridge.addFlags(f)
	f.StringVar(&o.tokenFile, "auth-token-file", "", "let only those write who send the token in this `FILE`")
	f.StringVar(&o.tlsCert, "tls-cert", "", "serve TLS with the certificates in this PEM `FILE`")
	f.StringVar(&o.tlsKey, "tls-key", "", "the private key of the certificate, a PEM `FILE`")
	f.DurationVar(&o.grace, "grace", 30*time.Second, "let requests under way end for this `TIME` on SIGTERM")
	f.StringVar(&o.logLevel, "log-level", "info", "least `LEVEL` that is logged to standard error: debug (each request), info, warn or error")
	f.BoolVar(&o.logJSON, "log-json", false, "log as lines of JSON")
	return c
}

func (o *narBridgeOptions) run(ctx context.Context, stderr io.Writer) error {
	log, options, err := o.options(stderr)
	if err != nil {
		return err
	}
	listeners, err := grpcserver.Listen(o.listen)
	if err != nil {
		return err
	}
	return o.serve(ctx, log, options, listeners)
}

// options checks the flags and reads the files that they name.
func (o *narBridgeOptions) options(stderr io.Writer) (*slog.Logger, narbridge.Options, error) {
	var none narbridge.Options
	if o.grace < 0 {
		return nil, none, cli.Usagef("--grace %v: want a time", o.grace)
	}
	log, err := newLogger(stderr, o.logLevel, o.logJSON)
	if err != nil {
		return nil, none, err
	}
	options, err := o.bridge.parse(log)
	if err != nil {
		return nil, none, err
	}
	if options.TLS, err = readCertificate(o.tlsCert, o.tlsKey); err != nil {
		return nil, none, err
	}
	options.Token, err = readToken(o.tokenFile)
	return log, options, err
}

// serve serves the store until ctx is done or a listener fails, and closes the
// listeners.
func (o *narBridgeOptions) serve(ctx context.Context, log *slog.Logger, options narbridge.Options, listeners []net.Listener) error {
	defer closeListeners(listeners)
	o.addresses.Log = log
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return err
	}
	bridge, closeBridge, err := newBridge(store, o.addresses, &o.bridge, options, listeners)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	err = serveAll(ctx, log, o.grace, bridge)
	return errors.Join(err, closeBridge(), store.Close())
}

// newBridge makes the server of a store as a binary cache. What it returns beside
// it closes its table of uploads.
func newBridge(store *storeaddr.Store, a storeaddr.Addresses, o *bridgeOptions, options narbridge.Options, listeners []net.Listener) (service, func() error, error) {
	table, err := o.openUploads(a)
	if err != nil {
		return service{}, nil, err
	}
	options.Uploads = table
	s := narbridge.New(narbridge.Store{Blobs: store.Blobs, Directories: store.Directories, PathInfos: store.PathInfos}, options)
	warning := ""
	if options.Token == "" {
		warning = "other machines may be able to connect and to write to the store: set a token"
	}
	return service{name: "binary cache", listeners: listeners, serve: s.Serve, shutdown: s.Shutdown, publicWarning: warning}, table.Close, nil
}
