package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/storeaddr"
	"storeboot/virtiofsd/substitute"
)

type fetchOptions struct {
	addresses storeaddr.Addresses
	from      []string
	json      bool
}

func newFetchCommand() *cobra.Command {
	o := &fetchOptions{}
	c := &cobra.Command{
		Use:   "fetch STOREPATH... --from URL",
		Short: "Fetch store paths with all they refer to from Nix binary caches",
		Long: `fetch fetches each STOREPATH and all that it refers to from Nix binary caches into
the store, and prints the store paths that it fetched. What is there already is
not fetched again; a closure that is all there makes no request.

Each path has to be signed by a trusted key, of --trusted-public-keys or of the
address; the key of https://cache.nixos.org is known. What is downloaded is
compared with its hashes while it is stored, and a path appears in the store
after all that it refers to: a fetch that is killed leaves no path without its
references, and the next one goes on.

URL is http(s)://HOST/PATH, file:///DIR or s3://BUCKET, with parameters as
?trusted-public-keys=KEYS&priority=N&timeout=30s&stall-timeout=30s&retries=4.
With several --from the cache of the lowest priority number is asked first.`,
		Example: `  virtiofsd fetch --from https://cache.nixos.org /nix/store/HASH-hello-2.12.1
  virtiofsd fetch --from 'https://cache.example?trusted-public-keys=example-1:BASE64' /nix/store/HASH-hello
  virtiofsd fetch --from 'file:///mnt/usb/cache?allow-unsigned=1' /nix/store/HASH-hello`,
		Args: cli.MinArgs("STOREPATH"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), args, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	o.addresses.AddReadFlags(f, false)
	f.StringArrayVar(&o.from, "from", nil, "fetch from this Nix binary cache, a `URL` (may be repeated; --substituter means the same)")
	f.BoolVar(&o.json, "json", false, "print the closure as JSON, with what was fetched")
	return c
}

// fetchJSON is the JSON form of one path of a fetched closure.
type fetchJSON struct {
	pathJSON
	Fetched bool `json:"fetched"` // false: it was in the store already
}

func (o *fetchOptions) run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var paths []storepath.StorePath
	for _, arg := range args {
		p, err := wholePath(arg)
		if err != nil {
			return err
		}
		paths = append(paths, p)
	}
	s := o.addresses.Substituters
	s.Addresses = append(s.Addresses, o.from...)
	if len(s.Addresses) == 0 {
		return cli.Usagef("fetch: say where from, with --from URL")
	}
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	service, ok := store.PathInfos.(*substitute.Service)
	if !ok {
		return errors.Join(errors.New("fetch: the store has no substituters"), store.Close())
	}
	progress := newFetchProgress(stderr, service)
	done, err := service.Fetch(ctx, paths)
	progress.end()
	if err = errors.Join(err, o.print(stdout, done), store.Close()); err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	return nil
}

func (o *fetchOptions) print(w io.Writer, done []substitute.Fetched) error {
	all := []fetchJSON{}
	for _, d := range done {
		all = append(all, fetchJSON{newPathJSON(d.Info), d.New})
	}
	if o.json {
		return writeJSON(w, all)
	}
	for _, d := range all {
		if !d.Fetched {
			continue
		}
		if _, err := fmt.Fprintln(w, d.Path); err != nil {
			return err
		}
	}
	return nil
}
