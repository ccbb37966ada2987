package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/gc"
	"storeboot/virtiofsd/ingest"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storeaddr"
)

type importOptions struct {
	addresses storeaddr.Addresses
	name      string
	json      bool
	nar       string
	tar       string
}

func newImportCommand() *cobra.Command {
	o := &importOptions{}
	c := &cobra.Command{
		Use:   "import PATH... | --nar FILE | --tar FILE",
		Short: "Store files and directories and print their store paths",
		Long: `import stores each PATH, a file, directory or symlink, under the store path that
'nix-store --add' gives it, and prints that. The store path follows from the
name and the contents alone. What is stored already is not stored again; what is
known of it (references, signatures) stays.

Symlinks are stored, not followed; owners, times and modes other than
"executable" are dropped. Instead of a PATH the tree in a NAR (--nar) or a tar
archive (--tar) can be stored; with - these are read from standard input. Of a
tar archive the tree is its root if it has an entry "./", else its one top-level
entry.

A path is in the store when its line is printed: an
import that is killed leaves what was printed before complete.`,
		Example: `  virtiofsd import ./program
  virtiofsd import --name hello-1.0 ./build
  virtiofsd import --json ./a ./b | jq -r '.[].path'
  nix-store --dump ./x | virtiofsd import --nar - --name x
  zstd -dc root.tar.zst | virtiofsd import --tar - --name root`,
		Args: func(c *cobra.Command, args []string) error {
			if o.nar != "" || o.tar != "" {
				return cli.NoArgs(c, args)
			}
			return cli.MinArgs("PATH")(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if o.nar != "" || o.tar != "" {
				return o.runStream(c.Context(), c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
			}
			return o.run(c.Context(), args, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	o.addresses.AddFlags(f)
	f.StringVar(&o.name, "name", "", "the `NAME` in the store path, if not that of the file; for one PATH")
	f.StringVar(&o.nar, "nar", "", "store the tree in this NAR `FILE`, or in standard input (-)")
	f.StringVar(&o.tar, "tar", "", "store the tree in this uncompressed tar `FILE`, or in standard input (-)")
	f.BoolVar(&o.json, "json", false, "print what was stored as JSON")
	return c
}

func (o *importOptions) run(ctx context.Context, paths []string, stdout, stderr io.Writer) error {
	names, err := o.names(paths)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	err = o.importAll(ctx, store, paths, names, stdout, stderr)
	if err = errors.Join(err, store.Close()); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	return nil
}

// names are the names in the store of paths, all checked before any is read.
func (o *importOptions) names(paths []string) ([]string, error) {
	if o.name != "" && len(paths) > 1 {
		return nil, cli.Usagef("--name names one path, and there are %d", len(paths))
	}
	names := make([]string, len(paths))
	for i, path := range paths {
		names[i] = o.name
		if o.name == "" {
			abs, err := filepath.Abs(path)
			if err != nil {
				return nil, err
			}
			names[i] = filepath.Base(abs)
		}
		if err := storepath.CheckName(names[i]); err != nil {
			if o.name != "" {
				return nil, fmt.Errorf("--name %q: %w", o.name, err)
			}
			return nil, fmt.Errorf("the name of %q cannot be in a store path: %w; give another with --name", path, err)
		}
	}
	return names, nil
}

func (o *importOptions) importAll(ctx context.Context, store *storeaddr.Store, paths, names []string, stdout, stderr io.Writer) error {
	infos := []pathJSON{}
	for i, path := range paths {
		info, err := importPath(ctx, store, path, names[i], stderr)
		if err != nil {
			return err
		}
		if o.json {
			infos = append(infos, newPathJSON(info))
		} else if _, err := fmt.Fprintln(stdout, info.StorePath.Absolute()); err != nil {
			return err
		}
	}
	if !o.json {
		return nil
	}
	return writeJSON(stdout, infos)
}

// importPath stores one path.
func importPath(ctx context.Context, store *storeaddr.Store, path, name string, stderr io.Writer) (*pathinfo.PathInfo, error) {
	progress := newProgress(stderr, name, 0)
	defer progress.end()
	return storeTree(ctx, store, name, func() (ingest.Result, error) {
		return ingest.Path(ctx, store.Blobs, store.Directories, path, progress.add)
	})
}

// storeTree stores what take takes in under the path that follows from its
// contents. Nothing is collected meanwhile.
func storeTree(ctx context.Context, store *storeaddr.Store, name string, take func() (ingest.Result, error)) (*pathinfo.PathInfo, error) {
	release, err := gc.Hold(ctx, store.Blobs)
	if err != nil {
		return nil, err
	}
	defer release()
	r, err := take()
	if err != nil {
		return nil, err
	}
	p, err := storepath.FromNARHash(name, r.NarSHA256)
	if err != nil {
		return nil, err
	}
	before, err := store.PathInfos.Get(ctx, p.Hash)
	switch {
	case err == nil && before.StorePath == p && before.NarSHA256 == r.NarSHA256 && before.Node == r.Node:
		if s, ok := store.PathInfos.(pathinfo.Sweeper); ok {
			return before, s.Touch(ctx, p.Hash) // it is in use, as a new one is
		}
		return before, nil
	case err != nil && !errors.Is(err, pathinfo.ErrNotFound):
		return nil, err
	}
	return store.PathInfos.Put(ctx, &pathinfo.PathInfo{
		StorePath: p,
		Node:      r.Node,
		NarSize:   r.NarSize,
		NarSHA256: r.NarSHA256,
		CA:        &pathinfo.CA{Type: pathinfo.CANARSHA256, Digest: r.NarSHA256[:]},
	})
}

// writeJSON prints v as JSON for people too.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
