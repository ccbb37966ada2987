package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/storeaddr"
)

type dropInDaemonOptions struct {
	daemon daemonOptions // without listen
	listen listenOptions
}

// daemonAddresses are the addresses that the daemon of that name has by default
// (tvix of November 2024, snix of December 2025).
func daemonAddresses(name string) storeaddr.Addresses {
	if name == tvixStore {
		return storeaddr.Addresses{
			Blobs:       "objectstore+file:///var/lib/tvix-store/blobs.object_store",
			Directories: "redb:///var/lib/tvix-store/directories.redb",
			PathInfos:   "redb:///var/lib/tvix-store/pathinfo.redb",
		}
	}
	return storeaddr.Addresses{
		Blobs:       "objectstore+file:///var/lib/snix-castore/blobs",
		Directories: "redb:///var/lib/snix-castore/directories.redb",
		PathInfos:   "redb:///var/lib/snix-store/pathinfo.redb",
	}
}

func newDropInDaemonCommand(name string, g *dropInGlobals) *cobra.Command {
	o := &dropInDaemonOptions{daemon: *defaultDaemonOptions()}
	c := &cobra.Command{
		Use:   "daemon",
		Short: "Serve the store to programs over gRPC",
		Long: `daemon serves blobs, directories and path infos over gRPC, under the names of tvix
and of snix, with health and reflection.

Unlike the original it listens on the loopback addresses alone unless
--listen-address says otherwise, as whoever can connect may read and write the
store. On standard input and output (inetd, stdio or -) it serves the one
connection that these are and ends with it. For TLS and tokens call it as 'virtiofsd daemon'.

The databases of redb: addresses are ours: one of the original that is there
already is refused, and not touched.`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if o.daemon.logLevel, err = g.level(); err != nil {
				return err
			}
			o.daemon.logJSON = g.json
			o.listen.in, o.listen.out = c.InOrStdin(), c.OutOrStdout()
			return o.run(c.Context(), c.ErrOrStderr())
		},
	}
	o.daemon.addresses.AddServiceFlags(c.Flags(), daemonAddresses(name))
	o.listen.addFlags(c.Flags())
	return c
}

func (o *dropInDaemonOptions) run(ctx context.Context, stderr io.Writer) error {
	options, err := o.daemon.serverOptions(stderr)
	if err != nil {
		return err
	}
	listeners, err := o.listen.listen(ctx)
	if err != nil {
		return err
	}
	defer func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	o.daemon.addresses.Log = options.Log
	store, err := storeaddr.Open(ctx, o.daemon.addresses)
	if err != nil {
		return err
	}
	err = o.daemon.serve(ctx, grpcserver.New(store.Blobs, store.Directories, store.PathInfos, options), listeners, options)
	if errors.Is(err, errStdioEnded) {
		err = nil
	}
	return errors.Join(err, store.Close())
}
