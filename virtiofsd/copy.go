package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/ingest"
	"storeboot/virtiofsd/nixdb"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storeaddr"
)

type copyOptions struct {
	addresses storeaddr.Addresses
	fromNix   bool
	nixRoot   string
	json      bool
}

func newCopyCommand() *cobra.Command {
	o := &copyOptions{}
	c := &cobra.Command{
		Use:   "copy --from-nix STOREPATH...",
		Short: "Copy store paths with all they refer to",
		Long: `copy stores each STOREPATH of the local Nix store and all that it refers to, with
references, deriver, signatures and content address, and prints the store paths
that it copied. What is stored already is not read again.

All that is read is checked against the NAR hash in Nix's database. A path is
stored after all that it refers to: a copy that is killed leaves no path without
its references. STOREPATH may also be a symlink to a store path, as nix-build
makes, or a path below one.`,
		Example: `  virtiofsd copy --from-nix /nix/store/HASH-hello
  virtiofsd copy --from-nix $(nix-build '<nixpkgs>' -A hello)
  virtiofsd copy --from-nix ./result`,
		Args: cli.MinArgs("STOREPATH"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), args, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	o.addresses.AddFlags(f)
	f.BoolVar(&o.fromNix, "from-nix", false, "copy from the local Nix store (NIX_STATE_DIR: its state directory, if not /nix/var/nix)")
	f.StringVar(&o.nixRoot, "nix-root", "", "the Nix store is below this `DIR` instead of / (Nix's local?root=DIR)")
	f.BoolVar(&o.json, "json", false, "print the closure as JSON, with what was copied")
	return c
}

// copyJSON is the JSON form of one path of a copied closure.
type copyJSON struct {
	pathJSON
	Copied bool `json:"copied"` // false: it was in the store already
}

func (o *copyOptions) run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if !o.fromNix {
		return cli.Usagef("copy: say where from: --from-nix")
	}
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
	before, err := store.PathInfos.Get(ctx, v.StorePath.Hash)
	if err == nil && before.StorePath == v.StorePath {
		progress.add(0, int64(v.NarSize))
		info, err = update(ctx, store.PathInfos, before, v)
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
	info, err = store.PathInfos.Put(ctx, &pathinfo.PathInfo{
		StorePath:  v.StorePath,
		Node:       r.Node,
		References: v.References,
		NarSize:    r.NarSize,
		NarSHA256:  r.NarSHA256,
		Signatures: v.Signatures,
		Deriver:    v.Deriver,
		CA:         v.CA,
	})
	return info, true, err
}

// update adds what Nix knows of a path to what the store knows. If Nix holds
// other contents under the path, as builds that are not reproducible give, the
// store's stay, as they do in Nix.
func update(ctx context.Context, infos pathinfo.Service, before *pathinfo.PathInfo, v nixdb.ValidPath) (*pathinfo.PathInfo, error) {
	if before.NarSHA256 != v.NarSHA256 {
		return before, nil
	}
	after := *before
	after.References = v.References
	after.Signatures = slices.Clone(before.Signatures)
	for _, s := range v.Signatures {
		if !slices.Contains(after.Signatures, s) {
			after.Signatures = append(after.Signatures, s)
		}
	}
	if v.Deriver != nil {
		after.Deriver = v.Deriver
	}
	if v.CA != nil {
		after.CA = v.CA
	}
	if reflect.DeepEqual(&after, before) {
		return before, nil
	}
	return infos.Put(ctx, &after)
}
