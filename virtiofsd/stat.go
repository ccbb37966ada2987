package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/storeaddr"
)

type statOptions struct {
	addresses storeaddr.Addresses
	json      bool
}

func newStatCommand() *cobra.Command {
	o := &statOptions{}
	c := &cobra.Command{
		Use:   "stat PATH",
		Short: "Show what the store knows of a path",
		Long: `stat shows what is at PATH, which is at or below a store path: its kind, size and
digest, and of a store path itself also its NAR hash, references, signatures,
deriver and content address. A symlink at PATH is not followed.`,
		Example: `  virtiofsd stat /nix/store/HASH-hello
  virtiofsd stat --json /nix/store/HASH-hello/bin/hello | jq -r .digest`,
		Args: cli.ExactArgs("PATH"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), args[0], c.OutOrStdout())
		},
	}
	f := c.Flags()
	o.addresses.AddReadFlags(f, false)
	f.BoolVar(&o.json, "json", false, "print the facts as JSON")
	return c
}

// statJSON is the JSON form of what is at a path.
type statJSON struct {
	nodeJSON
	Info *pathJSON `json:"pathInfo,omitempty"`
}

func (o *statOptions) run(ctx context.Context, path string, stdout io.Writer) error {
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	at, err := find(ctx, store, path, false)
	if err == nil {
		s := statJSON{nodeJSON: newNodeJSON(at.path, at.node)}
		if at.info != nil {
			info := newPathJSON(at.info)
			s.Info = &info
		}
		if o.json {
			err = writeJSON(stdout, s)
		} else {
			err = s.print(stdout)
		}
	}
	if err = errors.Join(err, store.Close()); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	return nil
}

func (s statJSON) print(out io.Writer) error {
	buf := bufio.NewWriter(out)
	w := tabwriter.NewWriter(buf, 0, 0, 2, ' ', 0)
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s:\t%s\n", key, value)
		}
	}
	line("Path", printable(s.Path))
	kind := s.Kind
	if s.Executable {
		kind = "executable file"
	}
	line("Kind", kind)
	if s.Size != nil {
		unit := "bytes"
		if s.Kind == castore.KindDirectory.String() {
			unit = "(twice the entries of all directories in it)"
		}
		line("Size", fmt.Sprint(*s.Size, " ", unit))
	}
	line("Digest", s.Digest)
	if s.Target != "" {
		line("Target", printable(s.Target))
	}
	if p := s.Info; p != nil {
		line("NAR hash", p.NarHash)
		line("NAR size", fmt.Sprint(p.NarSize, " bytes"))
		for _, r := range p.References {
			line("Reference", r)
		}
		line("Deriver", p.Deriver)
		for _, sig := range p.Signatures {
			line("Signature", sig)
		}
		line("CA", p.CA)
	}
	return errors.Join(w.Flush(), buf.Flush())
}
