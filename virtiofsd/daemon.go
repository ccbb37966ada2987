package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/storeaddr"
)

type daemonOptions struct {
	addresses  storeaddr.Addresses
	listen     string
	tlsCert    string
	tlsKey     string
	tokenFile  string
	maxMessage int
	idle       time.Duration
	grace      time.Duration
	logLevel   string
}

func newDaemonCommand() *cobra.Command {
	o := &daemonOptions{}
	c := &cobra.Command{
		Use:   "daemon",
		Short: "Serve the store to programs over gRPC",
		Long: `daemon serves the store over gRPC, to virtiofsd and to the programs of tvix and
snix: blobs, directories and path infos under the names of both, with health and
reflection.

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
	o.addresses.AddFlags(f)
	f.StringVarP(&o.listen, "listen-address", "l", ":8000", "listen on this `ADDR`: IP:PORT, :PORT (loopback only), /PATH (mode 0600), @NAME, sd-listen, sd-listen:NAME or sd-listen:*")
	f.StringVar(&o.tlsCert, "tls-cert", "", "serve TLS with the certificates in this PEM `FILE`")
	f.StringVar(&o.tlsKey, "tls-key", "", "the private key of the certificate, a PEM `FILE`")
	f.StringVar(&o.tokenFile, "token-file", "", "refuse callers who do not send the bearer token in this `FILE`")
	f.IntVar(&o.maxMessage, "max-message", 0, "accept messages of at most this many `BYTES`, say for huge directories (0: 16 MiB)")
	f.DurationVar(&o.idle, "idle", 2*time.Minute, "end a call whose peer sends and takes nothing for this `TIME`")
	f.DurationVar(&o.grace, "grace", 30*time.Second, "let calls under way end for this `TIME` on SIGTERM")
	f.StringVar(&o.logLevel, "log-level", "info", "least `LEVEL` that is logged to standard error: debug, info, warn or error")
	return c
}

// serverOptions checks the flags and reads the files that they name.
func (o *daemonOptions) serverOptions(stderr io.Writer) (grpcserver.Options, error) {
	var none grpcserver.Options
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return none, cli.Usagef("--log-level %q: want debug, info, warn or error", o.logLevel)
	}
	switch {
	case (o.tlsCert == "") != (o.tlsKey == ""):
		return none, cli.Usagef("--tls-cert and --tls-key go together")
	case o.maxMessage < 0:
		return none, cli.Usagef("--max-message %d: want a number of bytes", o.maxMessage)
	case o.idle <= 0:
		return none, cli.Usagef("--idle %v: want a time above 0", o.idle)
	case o.grace < 0:
		return none, cli.Usagef("--grace %v: want a time", o.grace)
	}
	s := grpcserver.Options{
		Log:        slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})),
		MaxMessage: o.maxMessage,
		Idle:       o.idle,
	}
	if o.tlsCert != "" {
		cert, err := tls.LoadX509KeyPair(o.tlsCert, o.tlsKey)
		if err != nil {
			return none, fmt.Errorf("read certificate %s and key %s: %w", o.tlsCert, o.tlsKey, err)
		}
		s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	if o.tokenFile != "" {
		b, err := os.ReadFile(o.tokenFile)
		if err != nil {
			return none, fmt.Errorf("read token: %w", err)
		}
		if s.Token = strings.TrimSpace(string(b)); s.Token == "" {
			return none, fmt.Errorf("read token: %s is empty", o.tokenFile)
		}
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
	defer func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	o.addresses.Log = options.Log
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return err
	}
	err = o.serve(ctx, grpcserver.New(store.Blobs, store.Directories, store.PathInfos, options), listeners, options)
	// What was reported as stored is flushed; the rest belongs to calls that
	// have failed or that ask for a flush and will not get one.
	return errors.Join(err, store.Close())
}

// serve serves until ctx is done or a listener fails.
func (o *daemonOptions) serve(ctx context.Context, s *grpcserver.Server, listeners []net.Listener, options grpcserver.Options) error {
	log := options.Log
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		if grpcserver.IsPublic(l) && (options.Token == "" || options.TLS == nil) {
			log.Warn("other machines may be able to connect: set --token-file, --tls-cert and --tls-key", "address", l.Addr())
		}
		go func() { failed <- s.Serve(l) }()
	}
	log.Info("listening", "addresses", grpcserver.Addresses(listeners))
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("tell systemd that the daemon is ready", "error", err)
	}
	var err error
	ended := 0
	select {
	case <-ctx.Done():
	case err = <-failed:
		ended++
	}
	// The grace begins when ctx has ended, so it has no part in it.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.grace)
	defer cancel()
	s.Shutdown(grace)
	for ; ended < len(listeners); ended++ {
		err = errors.Join(err, <-failed)
	}
	return err
}
