package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/mkinitrd/compare"
	"storeboot/mkinitrd/unpack"
)

type diffOptions struct{ json bool }

func newDiffCommand() *cobra.Command {
	var o diffOptions
	c := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Compare two initrds file by file",
		Long: `diff compares what the kernel unpacks from two initrds, file by file, whatever
their segments and compressions: a line for each file that was added, removed or
changed, with what about it changed. For text that is the first line that
differs, for programs and modules their sections and the libraries they need.

Times are not compared. The exit status is that of diff(1): 0 if there is no
difference, 1 if there is one, 2 if an image cannot be read.`,
		Example: `  mkinitrd diff initrd.old initrd
  mkinitrd diff --json initrd.old initrd | jq '.[] | select(.change == "added")'`,
		Args: cli.ExactArgs("OLD", "NEW"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.OutOrStdout(), args[0], args[1])
		},
	}
	c.Flags().BoolVar(&o.json, "json", false, "print the differences as JSON")
	return c
}

func (o diffOptions) run(w io.Writer, old, new string) error {
	trouble := func(err error) error { return &cli.StatusError{Status: 2, Err: fmt.Errorf("diff: %w", err)} }
	a, freeA, err := unpackFile(old)
	if err != nil {
		return trouble(err)
	}
	defer freeA()
	b, freeB, err := unpackFile(new)
	if err != nil {
		return trouble(err)
	}
	defer freeB()
	list, err := compare.Trees(a.Tree, b.Tree)
	if err != nil {
		return trouble(err)
	}
	if o.json {
		j := json.NewEncoder(w)
		j.SetIndent("", "  ")
		err = j.Encode(list)
	} else {
		err = printDifferences(w, list)
	}
	if err != nil {
		return trouble(err)
	}
	if len(list) > 0 {
		return &cli.StatusError{Status: cli.ExitFailure}
	}
	return nil
}

// unpackFile unpacks an image that has to be sound as far as the kernel is
// concerned.
func unpackFile(path string) (*unpack.Result, func(), error) {
	f, err := readInitrd(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	spool := new(unpack.Spool)
	free := func() { _ = spool.Close() }
	r, err := unpack.Run(f, unpack.Kernel{}, spool)
	switch {
	case err != nil:
	case r.Message != "":
		err = fmt.Errorf("segment %d, at byte %d: the kernel gives up here (%s): %s", r.Segment, r.Offset, r.Message, r.Cause)
	case r.Unsure != "":
		err = errors.New(r.Unsure)
	case len(r.Segments) == 0:
		err = errors.New("is empty")
	}
	if err != nil {
		free()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, free, nil
}

func printDifferences(w io.Writer, list []compare.Difference) error {
	letters := map[compare.Change]string{compare.Added: "+", compare.Removed: "-", compare.Changed: "~"}
	var added, removed, changed int
	var grown int64
	for _, d := range list {
		grown += d.NewSize - d.OldSize
		switch d.Change {
		case compare.Added:
			added++
		case compare.Removed:
			removed++
		default:
			changed++
		}
		if _, err := fmt.Fprintf(w, "%s %s: %s\n", letters[d.Change], printable(d.Path), strings.Join(d.What, ", ")); err != nil {
			return err
		}
		for _, detail := range d.Detail {
			if _, err := fmt.Fprintf(w, "    %s\n", detail); err != nil {
				return err
			}
		}
	}
	if len(list) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "%d added, %d removed, %d changed; %+d bytes\n", added, removed, changed, grown)
	return err
}
