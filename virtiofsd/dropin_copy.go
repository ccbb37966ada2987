package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/gc"
	"storeboot/virtiofsd/nixdb"
	"storeboot/virtiofsd/storeaddr"
)

// attrsFileEnv is the variable that Nix sets for builders with structured
// attributes.
const attrsFileEnv = "NIX_ATTRS_JSON_FILE"

type dropInCopyOptions struct {
	addresses storeaddr.Addresses
	nixRoot   string // the Nix store is below it; "" but in tests
}

func newDropInCopyCommand() *cobra.Command {
	return dropInCopyCommand(&dropInCopyOptions{}, clientAddresses())
}

// dropInCopyCommand is the command with default addresses.
func dropInCopyCommand(o *dropInCopyOptions, def storeaddr.Addresses) *cobra.Command {
	c := &cobra.Command{
		Use:   "copy [NIX_ATTRS_JSON_FILE]",
		Short: "Copy a closure of the local Nix store that a JSON file describes",
		Long: `copy stores the paths of the local Nix store that are listed under the key
"closure" of a JSON object, which is read from NIX_ATTRS_JSON_FILE, from the file
that the variable of that name gives, or from standard input (-). It is what
exportReferencesGraph gives a builder with structured attributes, or

  nix path-info --json --closure-size --recursive PATH | jq -s '{closure: add}'

All that is read is checked against the NAR hash in the file. A path is stored
after all that it refers to. What is stored already is not read again.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			file := os.Getenv(attrsFileEnv)
			if len(args) > 0 {
				file = args[0]
			}
			if file == "" {
				return cli.Usagef("%s is missing: give it as an argument or in the environment", attrsFileEnv)
			}
			if err := o.run(c.Context(), file, c.InOrStdin(), c.ErrOrStderr()); err != nil {
				return fmt.Errorf("copy: %w", err)
			}
			return nil
		},
	}
	o.addresses.AddServiceFlags(c.Flags(), def)
	return c
}

func (o *dropInCopyOptions) run(ctx context.Context, file string, stdin io.Reader, stderr io.Writer) error {
	closure, err := readClosure(file, stdin)
	if err != nil {
		return err
	}
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return err
	}
	return errors.Join(o.copy(ctx, store, closure, stderr), store.Close())
}

func readClosure(file string, stdin io.Reader) ([]nixdb.ValidPath, error) {
	in := stdin
	if file == "-" {
		file = "standard input"
	} else {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read the closure: %w", err)
		}
		defer f.Close()
		in = f
	}
	closure, err := parseClosure(in)
	if err != nil {
		return nil, fmt.Errorf("read the closure from %s: %w", file, err)
	}
	return closure, nil
}

func (o *dropInCopyOptions) copy(ctx context.Context, store *storeaddr.Store, closure []nixdb.ValidPath, stderr io.Writer) error {
	release, err := gc.Hold(ctx, store.Blobs) // what is copied first is needed at the end
	if err != nil {
		return err
	}
	defer release()
	var total int64
	for _, v := range closure {
		total += int64(min(v.NarSize, 1<<62-uint64(total)))
	}
	progress := newCountedProgress(stderr, "copy", total, len(closure))
	defer progress.end()
	for _, v := range closure {
		if _, _, err := copyPath(ctx, store, v, filepath.Join(o.nixRoot, v.StorePath.Absolute()), progress); err != nil {
			return fmt.Errorf("%s: %w", v.StorePath.Absolute(), err)
		}
		progress.path()
	}
	return nil
}
