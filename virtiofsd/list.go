package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/nix-community/go-nix/pkg/nixbase32"
	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storeaddr"
)

type listOptions struct {
	addresses storeaddr.Addresses
	json      bool
}

func newListCommand() *cobra.Command {
	o := &listOptions{}
	c := &cobra.Command{
		Use:   "list",
		Short: "List the store paths in the store",
		Long:  "list prints the store paths in the store, one per line, in the order of their hashes.",
		Example: `  virtiofsd list
  virtiofsd list --json | jq -r '.[] | "\(.narSize) \(.path)"' | sort -n`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.run(c.Context(), c.OutOrStdout())
		},
	}
	f := c.Flags()
	o.addresses.AddFlags(f)
	f.BoolVar(&o.json, "json", false, "print what is known of each path as JSON")
	return c
}

func (o *listOptions) run(ctx context.Context, stdout io.Writer) error {
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	w := bufio.NewWriter(stdout)
	print := printPaths
	if o.json {
		print = printPathsJSON
	}
	err = print(ctx, w, store.PathInfos)
	if err = errors.Join(err, w.Flush(), store.Close()); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	return nil
}

func printPaths(ctx context.Context, w io.Writer, infos pathinfo.Service) error {
	for p, err := range infos.List(ctx) {
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w, p.StorePath.Absolute()); err != nil {
			return err
		}
	}
	return nil
}

// printPathsJSON prints an array without holding it.
func printPathsJSON(ctx context.Context, w io.Writer, infos pathinfo.Service) error {
	separator := "[\n  "
	for p, err := range infos.List(ctx) {
		if err != nil {
			return err
		}
		b, err := json.MarshalIndent(newPathJSON(p), "  ", "  ")
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s%s", separator, b); err != nil {
			return err
		}
		separator = ",\n  "
	}
	end := "\n]\n"
	if separator == "[\n  " {
		end = "[]\n"
	}
	_, err := io.WriteString(w, end)
	return err
}

// pathJSON is the JSON form of a path info, with the names of 'nix path-info'.
type pathJSON struct {
	Path       string   `json:"path"`
	Kind       string   `json:"kind"`
	Digest     string   `json:"digest,omitempty"`
	NarHash    string   `json:"narHash"`
	NarSize    uint64   `json:"narSize"`
	References []string `json:"references"`
	Deriver    string   `json:"deriver,omitempty"`
	Signatures []string `json:"signatures,omitempty"`
	CA         string   `json:"ca,omitempty"`
}

func newPathJSON(p *pathinfo.PathInfo) pathJSON {
	n := newNodeJSON("", p.Node)
	j := pathJSON{
		Path:       p.StorePath.Absolute(),
		Kind:       n.Kind,
		Digest:     n.Digest,
		NarHash:    narHash(p.NarSHA256),
		NarSize:    p.NarSize,
		References: []string{},
	}
	for _, r := range p.References {
		j.References = append(j.References, r.Absolute())
	}
	if p.Deriver != nil {
		j.Deriver = p.Deriver.Absolute() + ".drv"
	}
	for _, s := range p.Signatures {
		j.Signatures = append(j.Signatures, s.String())
	}
	if p.CA != nil {
		j.CA = p.CA.String()
	}
	return j
}

// narHash is Nix's form of a NAR hash.
func narHash(sum [32]byte) string { return "sha256:" + nixbase32.EncodeToString(sum[:]) }
