package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/newc"
	"storeboot/mkinitrd/archive"
	"storeboot/mkinitrd/extract"
)

type extractOptions struct {
	dir  string
	only []string
}

func newExtractCommand() *cobra.Command {
	var o extractOptions
	c := &cobra.Command{
		Use:   "extract IMAGE",
		Short: "Write the files of an initrd to a directory",
		Long: `extract writes the files of all segments of an initrd below a directory, in the
order in which the kernel unpacks them: the last of several files at one place
stays. Nothing is written outside the directory, whatever names and links are in
the image.

Owners, set-user-ID bits and device nodes are kept for root; others are told
which nodes are left out.`,
		Example: `  mkinitrd extract initrd -C unpacked
  mkinitrd extract initrd -C firmware --only lib/firmware --only '*.conf'`,
		Args: cli.ExactArgs("IMAGE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.run(c.ErrOrStderr(), args[0]); err != nil {
				var usage *cli.UsageError
				if errors.As(err, &usage) {
					return err
				}
				return fmt.Errorf("extract %s: %w", args[0], err)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&o.dir, "directory", "C", ".", "`directory` to write to, made if it is not there")
	c.Flags().StringArrayVar(&o.only, "only", nil, "only what matches the `pattern`, and all below it; may be repeated")
	return c
}

// fileKey is what the names of one file have in common within an archive.
type fileKey struct {
	archive                int
	major, minor, ino, typ uint32
}

func keyOf(e archive.Entry) (fileKey, bool) {
	return fileKey{e.Archive, e.DevMajor, e.DevMinor, e.Ino, e.Type()}, e.NLink >= 2 && !e.IsDir() && e.Type() != newc.TypeSymlink
}

func (o extractOptions) run(stderr io.Writer, image string) error {
	only, err := newPatterns(o.only)
	if err != nil {
		return err
	}
	f, err := openInitrd(image)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := f.initrd()
	if err != nil {
		return err
	}
	// Where only some of a file's names are wanted, another may have the data.
	wanted := map[fileKey]bool{}
	found := len(only) == 0
	if !found {
		_, err := archive.Walk(r, func(e archive.Entry) error {
			if only.match(e.Name) {
				found = true
				if key, linked := keyOf(e); linked {
					wanted[key] = true
				}
			}
			return nil
		})
		switch {
		case err != nil:
			return err
		case !found:
			return fmt.Errorf("nothing in it matches %s", strings.Join(o.only, " "))
		}
		if r, err = f.initrd(); err != nil {
			return err
		}
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	w, err := extract.Open(o.dir, log)
	if err != nil {
		return err
	}
	x := extraction{w: w, only: only, wanted: wanted, names: map[fileKey]string{}, early: map[fileKey][]byte{}}
	_, err = archive.Walk(r, x.add)
	return errors.Join(err, w.Close())
}

type extraction struct {
	w      *extract.Writer
	only   patterns
	wanted map[fileKey]bool
	names  map[fileKey]string // of what has been written
	early  map[fileKey][]byte // data that came under a name that is not wanted
	kept   int64              // bytes in early
}

// maxEarly bounds the data that is kept for names that come later.
const maxEarly = 256 << 20

func (x *extraction) add(e archive.Entry) error {
	name := cleanName(e.Name)
	key, linked := keyOf(e)
	if !x.only.match(e.Name) {
		if !linked || !x.wanted[key] || e.Size == 0 {
			return nil
		}
		if first, ok := x.names[key]; ok {
			return x.w.Link(first, first, e.Header, e.Data)
		}
		if x.kept += e.Size; x.kept > maxEarly {
			return fmt.Errorf("%s: is another name of a file that is wanted, and has %d bytes: select it too", name, e.Size)
		}
		data, err := io.ReadAll(e.Data)
		x.early[key] = data
		return err
	}
	if linked {
		if first, ok := x.names[key]; ok {
			return x.w.Link(first, name, e.Header, e.Data)
		}
		x.names[key] = name
		if data, ok := x.early[key]; ok && e.Size == 0 {
			delete(x.early, key)
			return x.w.Add(name, e.Header, strings.NewReader(string(data)))
		}
	}
	return x.w.Add(name, e.Header, e.Data)
}
