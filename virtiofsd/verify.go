package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/storeaddr"
	"storeboot/virtiofsd/verify"
)

type verifyOptions struct {
	addresses storeaddr.Addresses
	remove    bool
	json      bool
}

func newVerifyCommand() *cobra.Command {
	o := &verifyOptions{}
	c := &cobra.Command{
		Use:   "verify [STOREPATH...]",
		Short: "Read the store again and say what is damaged",
		Long: `verify hashes each STOREPATH again, or all that the store holds: every blob and
directory, and the NAR of every store path. It prints what is damaged, by digest,
with the store paths that need it, and exits with 1 if anything is.

With --remove it removes what is damaged, together with the path infos of the
store paths that need it, so that these can be imported or copied again. The
exit status says 1 then too; the next verify finds nothing.`,
		Example: `  virtiofsd verify
  virtiofsd verify /nix/store/HASH-hello
  virtiofsd verify --json | jq -r '.damaged[].paths[]' | sort -u`,
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), args, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	o.addresses.AddFlags(f)
	f.BoolVar(&o.remove, "remove", false, "remove what is damaged, and the store paths that need it")
	f.BoolVar(&o.json, "json", false, "print the result as JSON")
	return c
}

// verifyJSON is the JSON form of a report.
type verifyJSON struct {
	Paths       int          `json:"paths"`
	Directories int          `json:"directories"`
	Blobs       int          `json:"blobs"`
	BlobBytes   int64        `json:"blobBytes"`
	Damaged     []damageJSON `json:"damaged"`
	Removed     int          `json:"removed"`
}

type damageJSON struct {
	Kind  string   `json:"kind"`  // blob, directory or path info
	Name  string   `json:"name"`  // its digest, or the hash part of a store path
	Error string   `json:"error"` // what is wrong
	Paths []string `json:"paths"` // the store paths that need it
}

func (o *verifyOptions) run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var paths []storepath.StorePath
	for _, arg := range args {
		p, err := wholePath(arg)
		if err != nil {
			return err
		}
		paths = append(paths, p)
	}
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	bar := &lateProgress{w: stderr, title: "verify"}
	report, err := verify.Run(ctx, verify.Store{Blobs: store.Blobs, Directories: store.Directories, PathInfos: store.PathInfos},
		verify.Options{Paths: paths, Remove: o.remove, Progress: bar.add})
	bar.end()
	if err = errors.Join(err, store.Close()); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if err := o.print(stdout, report); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	n := len(report.Damaged)
	if n > 0 && o.remove {
		return fmt.Errorf("verify: %d of the store's parts were damaged and are removed: import or copy the store paths that need them again", n)
	}
	if n > 0 {
		return fmt.Errorf("verify: %d of the store's parts are damaged: 'virtiofsd verify --remove' removes them and the store paths that need them, to be stored again", n)
	}
	return nil
}

func (o *verifyOptions) print(w io.Writer, r verify.Report) error {
	j := verifyJSON{r.Paths, r.Directories, r.Blobs, r.BlobBytes, []damageJSON{}, r.Removed}
	for _, d := range r.Damaged {
		paths := []string{}
		for _, p := range d.Paths {
			paths = append(paths, p.Absolute())
		}
		j.Damaged = append(j.Damaged, damageJSON{string(d.Kind), d.Name(), d.Err.Error(), paths})
	}
	if o.json {
		return writeJSON(w, j)
	}
	for _, d := range j.Damaged {
		if _, err := fmt.Fprintf(w, "damaged %s %s: %s\n", d.Kind, d.Name, d.Error); err != nil {
			return err
		}
		for _, p := range d.Paths {
			if _, err := fmt.Fprintf(w, "  needed by %s\n", p); err != nil {
				return err
			}
		}
	}
	text := fmt.Sprintf("checked store paths: %d, directories: %d, blobs: %d (%s); damaged: %d", j.Paths, j.Directories, j.Blobs, sizeText(j.BlobBytes), len(j.Damaged))
	if o.remove {
		text += fmt.Sprintf("; removed with what needs it: %d", j.Removed)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// sizeText is a number of bytes for people.
func sizeText(n int64) string {
	if n < 1<<10 {
		return fmt.Sprint(n, " bytes")
	}
	f, i := float64(n)/(1<<10), 0
	for units := "KMGTPE"; f >= 1<<10 && i < len(units)-1; i++ {
		f /= 1 << 10
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTPE"[i])
}

// lateProgress is a progress whose total is known when it is first told of.
type lateProgress struct {
	w     io.Writer
	title string
	*progress
}

func (p *lateProgress) add(bytes, total int64) {
	if p.progress == nil {
		p.progress = newProgress(p.w, p.title, total)
	}
	p.progress.add(0, bytes)
}

func (p *lateProgress) end() {
	if p.progress != nil {
		p.progress.end()
	}
}
