package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/storeaddr"
)

type lsOptions struct {
	addresses storeaddr.Addresses
	long      bool
	recursive bool
	json      bool
}

func newLsCommand() *cobra.Command {
	o := &lsOptions{}
	c := &cobra.Command{
		Use:   "ls PATH",
		Short: "List a directory in the store",
		Long: `ls lists the directory at PATH, which is at or below a store path; of anything
else it shows PATH itself. The size that -l shows is in bytes, of a directory it
is the number of all that is in it. A symlink at PATH is not followed.`,
		Example: `  virtiofsd ls -l /nix/store/HASH-hello/bin
  virtiofsd ls -R /nix/store/HASH-hello`,
		Args: cli.ExactArgs("PATH"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), args[0], c.OutOrStdout())
		},
	}
	f := c.Flags()
	o.addresses.AddReadFlags(f, false)
	f.BoolVarP(&o.long, "long", "l", false, "show mode, size and target too")
	f.BoolVarP(&o.recursive, "recursive", "R", false, "list all that is below, as paths relative to PATH")
	f.BoolVar(&o.json, "json", false, "print the entries as JSON")
	return c
}

func (o *lsOptions) run(ctx context.Context, path string, stdout io.Writer) error {
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return fmt.Errorf("ls: %w", err)
	}
	w := bufio.NewWriter(stdout)
	err = o.list(ctx, store, path, w)
	if err = errors.Join(err, w.Flush(), store.Close()); err != nil {
		return fmt.Errorf("ls: %w", err)
	}
	return nil
}

func (o *lsOptions) list(ctx context.Context, store *storeaddr.Store, path string, w io.Writer) error {
	at, err := find(ctx, store, path, false)
	if err != nil {
		return err
	}
	nodes := []nodeJSON{}
	print := func(path string, n castore.Node) error {
		if o.json {
			nodes = append(nodes, newNodeJSON(path, n))
			return nil
		}
		return o.print(w, path, n)
	}
	if at.node.Kind == castore.KindDirectory {
		err = o.walk(ctx, store.Directories, at.node.Digest, print)
	} else {
		err = print(at.path, at.node)
	}
	if err != nil || !o.json {
		return err
	}
	return writeJSON(w, nodes)
}

// walk calls print for the entries of a directory and, with -R, for all below,
// in the order of a NAR. It keeps a stack of its own: a tree may be deep.
func (o *lsOptions) walk(ctx context.Context, dirs castore.DirectoryService, root castore.Digest, print func(string, castore.Node) error) error {
	type level struct {
		prefix  string
		entries []castore.Entry
	}
	var stack []level
	enter := func(prefix string, d castore.Digest) error {
		dir, err := dirs.Get(ctx, d)
		if err == nil {
			stack = append(stack, level{prefix, dir.Entries()})
		}
		return err
	}
	if err := enter("", root); err != nil {
		return err
	}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if len(top.entries) == 0 {
			stack = stack[:len(stack)-1]
			continue
		}
		e := top.entries[0]
		top.entries = top.entries[1:]
		path := top.prefix + e.Name
		if err := print(path, e.Node); err != nil {
			return err
		}
		if o.recursive && e.Kind == castore.KindDirectory {
			if err := enter(path+"/", e.Digest); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *lsOptions) print(w io.Writer, path string, n castore.Node) error {
	if !o.long {
		_, err := fmt.Fprintln(w, printable(path))
		return err
	}
	arrow := ""
	if n.Kind == castore.KindSymlink {
		arrow = " -> " + printable(n.Target)
	}
	_, err := fmt.Fprintf(w, "%s %12d %s%s\n", modeOf(n), n.Size, printable(path), arrow)
	return err
}

// modeOf is the mode of a node as ls shows it.
func modeOf(n castore.Node) string {
	switch {
	case n.Kind == castore.KindDirectory:
		return "dr-xr-xr-x"
	case n.Kind == castore.KindSymlink:
		return "lrwxrwxrwx"
	case n.Executable:
		return "-r-xr-xr-x"
	}
	return "-r--r--r--"
}

// nodeJSON is the JSON form of a node.
type nodeJSON struct {
	Path       string  `json:"path,omitempty"`
	Kind       string  `json:"kind"`
	Size       *uint64 `json:"size,omitempty"` // bytes of a file, of a directory as castore counts it
	Executable bool    `json:"executable,omitempty"`
	Target     string  `json:"target,omitempty"`
	Digest     string  `json:"digest,omitempty"`
}

func newNodeJSON(path string, n castore.Node) nodeJSON {
	j := nodeJSON{Path: path, Kind: n.Kind.String(), Executable: n.Executable, Target: n.Target}
	if n.Kind != castore.KindSymlink {
		j.Size, j.Digest = &n.Size, n.Digest.String()
	}
	return j
}
