package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castorenar"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storeaddr"
)

type exportOptions struct {
	addresses storeaddr.Addresses
	output    string
}

func newExportCommand() *cobra.Command {
	o := &exportOptions{}
	c := &cobra.Command{
		Use:   "export STOREPATH",
		Short: "Write a store path as a NAR",
		Long: `export writes the contents of STOREPATH as a NAR, byte for byte as 'nix-store
--dump' does, and compares it with the NAR hash that the store knows. If it is
another one the exit status is 1, and a FILE is not made; what went to standard
output is not to be used then.`,
		Example: `  virtiofsd export /nix/store/HASH-hello | nix-store --restore ./hello
  virtiofsd export -o hello.nar /nix/store/HASH-hello`,
		Args: cli.ExactArgs("STOREPATH"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), args[0], c.OutOrStdout())
		},
	}
	f := c.Flags()
	o.addresses.AddReadFlags(f, false)
	f.StringVarP(&o.output, "output", "o", "", "write to this `FILE`, which is made or replaced when all is well")
	return c
}

func (o *exportOptions) run(ctx context.Context, arg string, stdout io.Writer) error {
	p, err := wholePath(arg)
	if err != nil {
		return err
	}
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	info, err := getPathInfo(ctx, store, p)
	switch {
	case err != nil:
	case o.output == "":
		err = exportNAR(ctx, store, info, stdout)
	default:
		err = replaceFile(o.output, func(w io.Writer) error { return exportNAR(ctx, store, info, w) })
	}
	if err = errors.Join(err, store.Close()); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// wholePath parses an argument that names a store path and nothing below it.
func wholePath(arg string) (storepath.StorePath, error) {
	p, below, err := storepath.ParseAbsolute(arg)
	if err == nil && below != "" {
		err = fmt.Errorf("%s is below a store path: name %s itself", arg, p.Absolute())
	}
	if err != nil {
		return p, &cli.UsageError{Err: err}
	}
	return p, nil
}

// narCheck passes a NAR on as long as it is no longer than it has to be.
type narCheck struct {
	hash.Hash
	to   io.Writer
	left uint64
}

func (w *narCheck) Write(p []byte) (int, error) {
	if uint64(len(p)) > w.left {
		return 0, errors.New("its contents are more than its path info says: check it with 'virtiofsd verify'")
	}
	w.left -= uint64(len(p))
	_, _ = w.Hash.Write(p) // never fails
	return w.to.Write(p)
}

// exportNAR writes the contents of a path, and fails if they are not what its
// path info says.
func exportNAR(ctx context.Context, store *storeaddr.Store, info *pathinfo.PathInfo, to io.Writer) error {
	w := &narCheck{sha256.New(), to, info.NarSize}
	err := castorenar.Write(ctx, w, info.Node, store.Blobs, store.Directories)
	if err == nil {
		if got := [sha256.Size]byte(w.Sum(nil)); got != info.NarSHA256 {
			err = fmt.Errorf("its contents have the NAR hash %s instead of %s: the store is damaged: check it with 'virtiofsd verify'", narHash(got), narHash(info.NarSHA256))
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", info.StorePath.Absolute(), err)
	}
	return nil
}

// replaceFile makes or replaces a file when write has succeeded.
func replaceFile(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".export-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
