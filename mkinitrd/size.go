package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/newc"
	"storeboot/mkinitrd/archive"
	"storeboot/mkinitrd/treemap"
)

type sizeOptions struct {
	depth int
	least float64
	html  string
	json  bool
}

func newSizeCommand() *cobra.Command {
	var o sizeOptions
	c := &cobra.Command{
		Use:   "size IMAGE",
		Short: "Show what takes the space in an initrd",
		Long: `size shows the segments of an initrd with their sizes in the file and unpacked,
and below them the tree of its files, the largest first. What a file takes in a
compressed segment is estimated by the segment's ratio.

--html writes a page with a treemap: one file that loads nothing.`,
		Example: `  mkinitrd size initrd
  mkinitrd size initrd --depth 4 --least 0.5
  mkinitrd size initrd --html size.html`,
		Args: cli.ExactArgs("IMAGE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if err := o.run(c.OutOrStdout(), args[0]); err != nil {
				return fmt.Errorf("size %s: %w", args[0], err)
			}
			return nil
		},
	}
	f := c.Flags()
	f.IntVar(&o.depth, "depth", 3, "how `many` directories deep the tree is shown")
	f.Float64Var(&o.least, "least", 1, "leave out what takes less than this many `percent`")
	f.StringVar(&o.html, "html", "", "write a treemap page to `file`")
	f.BoolVar(&o.json, "json", false, "print segments and files as JSON")
	return c
}

func (o sizeOptions) check() error {
	switch {
	case o.depth < 1:
		return cli.Usagef("--depth %d: want 1 or more", o.depth)
	case o.least < 0 || o.least > 100:
		return cli.Usagef("--least %g: want 0 to 100", o.least)
	}
	return nil
}

// sizeFile is the JSON form of a file.
type sizeFile struct {
	Path    string `json:"path"`
	Segment int    `json:"segment"`
	Size    int64  `json:"size"`   // unpacked
	Packed  int64  `json:"packed"` // estimated
}

type sizeReport struct {
	Size     int64              `json:"size"` // of the image
	Unpacked int64              `json:"unpacked"`
	Segments []*archive.Segment `json:"segments"`
	Files    []sizeFile         `json:"files"`
}

func (o sizeOptions) run(w io.Writer, image string) error {
	r, err := measure(image)
	if err != nil {
		return err
	}
	tree := &treemap.Node{Name: filepath.Base(image)}
	for _, f := range r.Files {
		tree.Add(f.Path, f.Size)
	}
	tree.Sort()
	if o.html != "" {
		if err := o.page(r, tree); err != nil {
			return err
		}
	}
	if o.json {
		j := json.NewEncoder(w)
		j.SetIndent("", "  ")
		return j.Encode(r)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "segment\tcompression\tin the file\tunpacked\tratio\tentries\t\n")
	for _, s := range r.Segments {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%.2f\t%d\t\n", s.Number, s.Codec, bytesText(s.Packed), bytesText(s.Unpacked), float64(s.Unpacked)/float64(max(s.Packed, 1)), s.Entries)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s in the file, %s of files:\n\n", bytesText(r.Size), bytesText(tree.Size))
	return o.tree(w, tree, tree.Size, 1)
}

func (o sizeOptions) tree(w io.Writer, n *treemap.Node, total int64, depth int) error {
	var rest, count int64
	for _, c := range n.Children {
		share := 100 * float64(c.Size) / float64(max(total, 1))
		if share < o.least {
			rest, count = rest+c.Size, count+1
			continue
		}
		slash := ""
		if len(c.Children) > 0 {
			slash = "/"
		}
		if _, err := fmt.Fprintf(w, "%10s %5.1f%%  %s%s%s\n", bytesText(c.Size), share, strings.Repeat("  ", depth-1), printable(c.Name), slash); err != nil {
			return err
		}
		if depth < o.depth {
			if err := o.tree(w, c, total, depth+1); err != nil {
				return err
			}
		}
	}
	if rest > 0 {
		_, err := fmt.Fprintf(w, "%10s %5.1f%%  %s(%d more)\n", bytesText(rest), 100*float64(rest)/float64(max(total, 1)), strings.Repeat("  ", depth-1), count)
		return err
	}
	return nil
}

// page writes the treemap beside its place and renames it.
func (o sizeOptions) page(r *sizeReport, tree *treemap.Node) error {
	out, err := createOutput(o.html, io.Discard)
	if err != nil {
		return err
	}
	defer out.discard()
	about := fmt.Sprintf("%s in the file, files: %d, segments: %d. Areas are sizes without compression; hover for paths.", bytesText(r.Size), len(r.Files), len(r.Segments))
	if err := treemap.WritePage(out, tree.Name, about, tree, bytesText); err != nil {
		return err
	}
	return out.commit()
}

// measure reads an image.
func measure(image string) (*sizeReport, error) {
	f, err := readInitrd(image)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	file := sizeCounter{w: io.Discard}
	r := &sizeReport{Files: []sizeFile{}}
	r.Segments, err = archive.Walk(io.TeeReader(f, &file), func(e archive.Entry) error {
		if e.Type() == newc.TypeRegular {
			r.Files = append(r.Files, sizeFile{Path: cleanName(e.Name), Segment: e.Segment.Number, Size: e.Size})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range r.Files {
		s := r.Segments[r.Files[i].Segment]
		r.Files[i].Packed = int64(float64(r.Files[i].Size) * float64(s.Packed) / float64(max(s.Unpacked, 1)))
	}
	for _, s := range r.Segments {
		r.Unpacked += s.Unpacked
	}
	r.Size = file.n
	return r, nil
}

// bytesText is a number of bytes for people.
func bytesText(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 10<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
