package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/zeebo/blake3"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/storeaddr"
)

type catOptions struct {
	addresses storeaddr.Addresses
}

func newCatCommand() *cobra.Command {
	o := &catOptions{}
	c := &cobra.Command{
		Use:   "cat PATH",
		Short: "Print a file in the store",
		Long: `cat prints the file at PATH, which is at or below a store path. Symlinks are
followed within the store. The contents are checked against their digest on the
way; if they are not what was stored, the exit status is 1.`,
		Example: `  virtiofsd cat /nix/store/HASH-hello/share/doc/README`,
		Args:    cli.ExactArgs("PATH"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), args[0], c.OutOrStdout())
		},
	}
	o.addresses.AddReadFlags(c.Flags(), false)
	return c
}

func (o *catOptions) run(ctx context.Context, path string, stdout io.Writer) error {
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return fmt.Errorf("cat: %w", err)
	}
	at, err := find(ctx, store, path, true)
	switch {
	case err != nil:
	case at.node.Kind == castore.KindDirectory:
		err = fmt.Errorf("%s is a directory: list it with 'virtiofsd ls'", at.path)
	default:
		err = copyBlob(ctx, store.Blobs, at, stdout)
	}
	if err = errors.Join(err, store.Close()); err != nil {
		return fmt.Errorf("cat: %w", err)
	}
	return nil
}

// copyBlob writes the contents of a file to w and checks them.
func copyBlob(ctx context.Context, blobs castore.BlobService, at found, w io.Writer) error {
	b, err := blobs.Open(ctx, at.node.Digest)
	if err != nil {
		return fmt.Errorf("%s: %w", at.path, err)
	}
	defer b.Close()
	hash := blake3.New()
	buf := make([]byte, 128<<10)
	if _, err := io.CopyBuffer(io.MultiWriter(w, hash), io.NewSectionReader(b, 0, b.Size()), buf); err != nil {
		return fmt.Errorf("%s: %w", at.path, err)
	}
	if got := castore.Digest(hash.Sum(nil)); got != at.node.Digest {
		return fmt.Errorf("%s: its contents have the digest %s instead of %s: the store is damaged", at.path, got, at.node.Digest)
	}
	return nil
}
