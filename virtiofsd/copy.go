package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/gc"
	"storeboot/virtiofsd/ingest"
	"storeboot/virtiofsd/nixdb"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storeaddr"
	"storeboot/virtiofsd/storecopy"
)

type copyOptions struct {
	addresses storeaddr.Addresses
	to        storeaddr.Addresses
	fromNix   bool
	nixRoot   string
	all       bool
	json      bool
}

func newCopyCommand() *cobra.Command {
	o := &copyOptions{}
	c := &cobra.Command{
		Use:   "copy --from-nix STOREPATH... | copy --to-store DIR STOREPATH...",
		Short: "Copy store paths with all they refer to",
		Long: `copy copies each STOREPATH and all that it refers to, with references, deriver,
signatures and content address, and prints the store paths that it copied. What is
there already is not copied again.

With --from-nix it copies from the local Nix store to the store. With --to-store or
the --to-...-addr flags it copies from the store to another one: an embedded store
in a directory, or what the three addresses name.

All that is read is checked against its digests and NAR hash. A path is stored
after all that it refers to: a copy that is killed leaves no path without its
references, and the next one goes on. With --from-nix, STOREPATH may also be a
symlink to a store path, as nix-build makes, or a path below one.`,
		Example: `  virtiofsd copy --from-nix /nix/store/HASH-hello
  virtiofsd copy --from-nix $(nix-build '<nixpkgs>' -A hello)
  virtiofsd copy --from-nix ./result
  virtiofsd copy --to-store /mnt/usb/store /nix/store/HASH-hello
  virtiofsd copy --store /mnt/usb/store --to-store /var/lib/storeboot --all`,
		Args: func(c *cobra.Command, args []string) error {
			if o.all {
				return cli.NoArgs(c, args)
			}
			return cli.MinArgs("STOREPATH")(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), args, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	o.addresses.AddFlags(f)
	f.BoolVar(&o.fromNix, "from-nix", false, "copy from the local Nix store (NIX_STATE_DIR: its state directory, if not /nix/var/nix)")
	f.StringVar(&o.nixRoot, "nix-root", "", "the Nix store is below this `DIR` instead of / (Nix's local?root=DIR)")
	f.StringVar(&o.to.Dir, "to-store", "", "copy to the embedded store in this `DIR`")
	f.StringVar(&o.to.Blobs, "to-blob-service-addr", "", "copy blobs to this `ADDRESS`")
	f.StringVar(&o.to.Directories, "to-directory-service-addr", "", "copy directories to this `ADDRESS`")
	f.StringVar(&o.to.PathInfos, "to-path-info-service-addr", "", "copy path infos to this `ADDRESS`")
	f.StringVar(&o.to.Composition, "to-composition", "", "copy to the services of this TOML `FILE`")
	f.BoolVar(&o.all, "all", false, "copy every store path of the store")
	f.BoolVar(&o.json, "json", false, "print the closure as JSON, with what was copied")
	return c
}

// copyJSON is the JSON form of one path of a copied closure.
type copyJSON struct {
	pathJSON
	Copied bool `json:"copied"` // false: it was in the store already
}

func (o *copyOptions) run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	toStore := o.to != storeaddr.Addresses{}
	switch {
	case o.fromNix && toStore:
		return cli.Usagef("copy: --from-nix copies to the store (--store): it does not go with --to-... flags")
	case o.fromNix && o.all:
		return cli.Usagef("copy: --all does not go with --from-nix: name the store paths")
	case o.fromNix:
		return o.fromNixStore(ctx, args, stdout, stderr)
	case !toStore:
		return cli.Usagef("copy: say where from, with --from-nix, or where to, with --to-store DIR")
	case o.to.Dir == "" && o.to.Composition == "" && (o.to.Blobs == "" || o.to.Directories == "" || o.to.PathInfos == ""):
		return cli.Usagef("copy: give all three of the --to-...-addr flags, or --to-store DIR for the others")
	}
	return o.toStore(ctx, args, stdout, stderr)
}

// fromNixStore copies from the local Nix store.
func (o *copyOptions) fromNixStore(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	paths, err := nixPaths(args)
	if err != nil {
		return err
	}
	db, err := nixdb.Open(o.nixRoot)
	if err != nil {
		return fmt.Errorf("copy %s: %w", args[0], err)
	}
	defer db.Close()
	closure, err := db.Closure(ctx, paths)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	done, err := copyClosure(ctx, store, db, closure, stderr)
	err = errors.Join(err, o.print(stdout, done), store.Close())
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	return nil
}

func (o *copyOptions) print(w io.Writer, done []copyJSON) error {
	if o.json {
		return writeJSON(w, done)
	}
	for _, d := range done {
		if !d.Copied {
			continue
		}
		if _, err := fmt.Fprintln(w, d.Path); err != nil {
			return err
		}
	}
	return nil
}

// nixPaths are the store paths that the arguments of copy name.
func nixPaths(args []string) ([]storepath.StorePath, error) {
	var paths []storepath.StorePath
	for _, arg := range args {
		path := arg
		if !strings.HasPrefix(path, storepath.StoreDir+"/") {
			real, err := filepath.EvalSymlinks(path)
			if err == nil {
				path, err = filepath.Abs(real)
			}
			if err != nil {
				return nil, fmt.Errorf("copy: %w", err)
			}
		}
		p, _, err := storepath.ParseAbsolute(path)
		if err != nil {
			return nil, cli.Usagef("copy %s: %w", arg, err)
		}
		paths = append(paths, p)
	}
	return paths, nil
}

// copyClosure stores what is missing of closure, in its order, and returns what
// was done, also beside an error.
func copyClosure(ctx context.Context, store *storeaddr.Store, db *nixdb.DB, closure []nixdb.ValidPath, stderr io.Writer) ([]copyJSON, error) {
	done := []copyJSON{}
	release, err := gc.Hold(ctx, store.Blobs) // what is copied first is needed at the end
	if err != nil {
		return done, err
	}
	defer release()
	var total int64
	for _, v := range closure {
		total += int64(v.NarSize)
	}
	progress := newProgress(stderr, "copy", total)
	defer progress.end()
	for _, v := range closure {
		info, copied, err := copyPath(ctx, store, v, db.RealPath(v.StorePath), progress)
		if err != nil {
			return done, fmt.Errorf("%s: %w", v.StorePath.Absolute(), err)
		}
		done = append(done, copyJSON{newPathJSON(info), copied})
	}
	return done, nil
}

func copyPath(ctx context.Context, store *storeaddr.Store, v nixdb.ValidPath, from string, progress *progress) (info *pathinfo.PathInfo, copied bool, err error) {
	known := &pathinfo.PathInfo{
		StorePath:  v.StorePath,
		References: v.References,
		NarSHA256:  v.NarSHA256,
		Signatures: v.Signatures,
		Deriver:    v.Deriver,
		CA:         v.CA,
	}
	before, err := store.PathInfos.Get(ctx, v.StorePath.Hash)
	if err == nil && before.StorePath == v.StorePath {
		progress.add(0, int64(v.NarSize))
		info, err = storecopy.Update(ctx, store.PathInfos, before, known)
		return info, false, err
	}
	if err != nil && !errors.Is(err, pathinfo.ErrNotFound) {
		return nil, false, err
	}
	r, err := ingest.Path(ctx, store.Blobs, store.Directories, from, progress.add)
	if err != nil {
		return nil, false, err
	}
	if r.NarSHA256 != v.NarSHA256 {
		return nil, false, fmt.Errorf("its contents have the NAR hash %s, Nix has recorded %s: repair it with 'nix-store --repair-path'", narHash(r.NarSHA256), narHash(v.NarSHA256))
	}
	known.Node, known.NarSize = r.Node, r.NarSize
	info, err = store.PathInfos.Put(ctx, known)
	return info, true, err
}
