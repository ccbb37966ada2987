package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/gc"
	"storeboot/virtiofsd/storeaddr"
)

type gcOptions struct {
	addresses  storeaddr.Addresses
	roots      []string
	addRoot    string
	removeRoot string
	listRoots  bool
	all        bool
	dryRun     bool
	grace      time.Duration
	wait       time.Duration
	json       bool
}

func newGCCommand() *cobra.Command {
	o := &gcOptions{}
	c := &cobra.Command{
		Use:   "gc [--add-root NAME STOREPATH]",
		Short: "Remove what no root needs from the store",
		Long: `gc removes from the store what its roots do not need: store paths, directories
and blobs. It prints the store paths that it removes.

Roots are the store paths given with --root and those in the directory "roots"
beside the store's database: symlinks, which --add-root and --remove-root make and
remove.
All that a root refers to stays too, and so does what was stored, or imported
again, within the time of --grace.

It waits for imports and copies that are at work, and they wait for it: nothing
of theirs is lost. Clients of a daemon are not waited for; they are safe as long
as storing a path takes them less time than --grace. A VM or mount that uses a
path does not keep it: make it a root. When gc is killed the store stays whole,
and the next gc does the rest.`,
		Example: `  virtiofsd gc --add-root hello /nix/store/HASH-hello
  virtiofsd gc --dry-run
  virtiofsd gc --root /nix/store/HASH-hello --grace 24h
  virtiofsd gc --list-roots
  virtiofsd gc --remove-root hello`,
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), args, c.OutOrStdout())
		},
	}
	f := c.Flags()
	o.addresses.AddFlags(f)
	f.StringArrayVar(&o.roots, "root", nil, "keep this `STOREPATH` and all that it refers to (may be repeated)")
	f.StringVar(&o.addRoot, "add-root", "", "make STOREPATH the root `NAME` and collect nothing")
	f.StringVar(&o.removeRoot, "remove-root", "", "remove the root `NAME` and collect nothing")
	f.BoolVar(&o.listRoots, "list-roots", false, "print the names of the roots and their store paths, and collect nothing")
	f.BoolVar(&o.all, "all", false, "go on without any root: remove all but what --grace keeps")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "remove nothing, say what would be removed")
	f.DurationVar(&o.grace, "grace", time.Hour, "keep what was stored or imported within this `TIME`; 0 only if no daemon serves the store")
	f.DurationVar(&o.wait, "wait", 10*time.Minute, "give up if imports or copies are still at work after this `TIME`; 0: never")
	f.BoolVar(&o.json, "json", false, "print the result as JSON")
	return c
}

// check refuses flags and arguments that do not go together.
func (o *gcOptions) check(args []string) error {
	modes := 0
	for _, on := range []bool{o.addRoot != "", o.removeRoot != "", o.listRoots} {
		if on {
			modes++
		}
	}
	switch {
	case modes > 1:
		return cli.Usagef("only one of --add-root, --remove-root and --list-roots is possible")
	case modes > 0 && (len(o.roots) > 0 || o.dryRun || o.all):
		return cli.Usagef("--root, --dry-run and --all are for a collection, which --add-root, --remove-root and --list-roots do not do")
	case o.grace < 0 || o.wait < 0:
		return cli.Usagef("--grace and --wait cannot be negative")
	case o.addRoot != "":
		return cli.ExactArgs("STOREPATH")(nil, args)
	}
	return cli.NoArgs(nil, args)
}

func (o *gcOptions) run(ctx context.Context, args []string, stdout io.Writer) error {
	if err := o.check(args); err != nil {
		return err
	}
	dir, err := rootsDir(o.addresses)
	if err != nil {
		return fmt.Errorf("gc: %w", err)
	}
	switch {
	case o.addRoot != "":
		err = o.add(ctx, dir, args[0])
	case o.removeRoot != "":
		err = dir.Remove(o.removeRoot)
	case o.listRoots:
		err = o.list(dir, stdout)
	default:
		err = o.collect(ctx, dir, stdout)
	}
	if err != nil {
		return fmt.Errorf("gc: %w", err)
	}
	return nil
}

// rootsDir is where the named roots of a store are: beside its path infos.
func rootsDir(a storeaddr.Addresses) (gc.RootsDir, error) {
	if a.Composition != "" {
		return "", errors.New("a store of a composition file has no place for roots: name its parts by the address flags")
	}
	if a.PathInfos == "" {
		return gc.RootsDir(a.Dir), nil
	}
	u, err := url.Parse(a.PathInfos)
	if err != nil || u.Scheme != "sqlite" || !filepath.IsAbs(u.Path) {
		return "", gc.ErrUnsupported
	}
	return gc.RootsDir(filepath.Dir(u.Path)), nil
}

// add makes a root of a path that is in the store.
func (o *gcOptions) add(ctx context.Context, dir gc.RootsDir, arg string) error {
	p, err := wholePath(arg)
	if err != nil {
		return err
	}
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return err
	}
	release, err := gc.Hold(ctx, store.Blobs) // the path must not go meanwhile
	if err == nil {
		if _, err = getPathInfo(ctx, store, p); err == nil {
			err = dir.Add(o.addRoot, p)
		}
		release()
	}
	return errors.Join(err, store.Close())
}

func (o *gcOptions) list(dir gc.RootsDir, w io.Writer) error {
	roots, err := dir.List()
	if err != nil {
		return err
	}
	if o.json {
		paths := map[string]string{}
		for _, r := range roots {
			paths[r.Name] = r.Path.Absolute()
		}
		return writeJSON(w, paths)
	}
	for _, r := range roots {
		if _, err := fmt.Fprintf(w, "%s %s\n", r.Name, r.Path.Absolute()); err != nil {
			return err
		}
	}
	return nil
}

func (o *gcOptions) collect(ctx context.Context, dir gc.RootsDir, stdout io.Writer) error {
	options := gc.Options{Grace: o.grace, Wait: o.wait, DryRun: o.dryRun}
	for _, arg := range o.roots {
		p, err := wholePath(arg)
		if err != nil {
			return err
		}
		options.Roots = append(options.Roots, p)
	}
	options.NamedRoots = func() ([]storepath.StorePath, error) {
		roots, err := dir.List()
		if err != nil {
			return nil, err
		}
		var paths []storepath.StorePath
		for _, r := range roots {
			paths = append(paths, r.Path)
		}
		if len(paths) == 0 && len(options.Roots) == 0 && !o.all {
			return nil, errors.New("there is no root, so that nothing would be kept: give --root, make one with --add-root, or say --all")
		}
		return paths, nil
	}
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return err
	}
	result, err := gc.Collect(ctx, gc.Store{Blobs: store.Blobs, Directories: store.Directories, PathInfos: store.PathInfos}, options)
	err = errors.Join(err, store.Close())
	if err != nil {
		return err
	}
	return o.print(stdout, result)
}

// gcJSON is the JSON form of a result.
type gcJSON struct {
	DryRun      bool     `json:"dryRun"`
	Removed     []string `json:"removed"` // store paths; of unreadable ones the hash part
	Directories int      `json:"directories"`
	Blobs       int      `json:"blobs"`
	BlobBytes   int64    `json:"blobBytes"`
	KeptPaths   int      `json:"keptPaths"`
	KeptBlobs   int      `json:"keptBlobs"`
}

func (o *gcOptions) print(w io.Writer, r gc.Result) error {
	j := gcJSON{o.dryRun, []string{}, r.Directories, r.Blobs, r.BlobBytes, r.KeptPaths, r.KeptBlobs}
	for _, p := range r.Paths {
		name := p.Hash.String()
		if p.Path != nil {
			name = p.Path.Absolute()
		}
		j.Removed = append(j.Removed, name)
	}
	if o.json {
		return writeJSON(w, j)
	}
	for _, name := range j.Removed {
		if _, err := fmt.Fprintln(w, name); err != nil {
			return err
		}
	}
	what := "removed"
	if o.dryRun {
		what = "would remove"
	}
	_, err := fmt.Fprintf(w, "%s store paths: %d, directories: %d, blobs: %d (%s); store paths that stay: %d\n", what, len(j.Removed), j.Directories, j.Blobs, sizeText(j.BlobBytes), j.KeptPaths)
	return err
}
