package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/newc"
	"storeboot/mkinitrd/archive"
	"storeboot/mkinitrd/compress"
)

type listOptions struct{ long, json bool }

func newListCommand() *cobra.Command {
	var o listOptions
	c := &cobra.Command{
		Use:   "ls IMAGE [PATTERN...]",
		Short: "List what is in an initrd",
		Long: `ls lists the entries of all segments of an initrd, whoever made it, in the order
in which the kernel unpacks them: their names, or with -l type and permissions,
owner, size or device, and name, below a line for each segment.

With PATTERN it lists the files that match, and all below them. An image that is
cut off or damaged is listed up to there, and is an error.`,
		Example: `  mkinitrd ls -l initrd
  mkinitrd ls initrd '*.ko' etc
  mkinitrd ls initrd --json | jq -r '.[] | select(.size > 1e6) | .path'`,
		Args: cli.MinArgs("IMAGE"),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.OutOrStdout(), args[0], args[1:]) },
	}
	c.Flags().BoolVarP(&o.long, "long", "l", false, "all about each entry")
	c.Flags().BoolVar(&o.json, "json", false, "print the entries as JSON")
	return c
}

// listEntry is the JSON form of an entry.
type listEntry struct {
	Path    string         `json:"path"`
	Segment int            `json:"segment"`
	Codec   compress.Codec `json:"compression"`
	Early   bool           `json:"early,omitempty"`
	Type    string         `json:"type"`
	Mode    string         `json:"mode"` // octal
	UID     uint32         `json:"uid"`
	GID     uint32         `json:"gid"`
	Links   uint32         `json:"links"`
	MTime   uint32         `json:"mtime"`
	Size    int64          `json:"size"`
	Target  string         `json:"target,omitempty"`
	Device  string         `json:"device,omitempty"`
}

func (o listOptions) run(w io.Writer, image string, args []string) error {
	only, err := newPatterns(args)
	if err != nil {
		return err
	}
	f, err := readInitrd(image)
	if err != nil {
		return fmt.Errorf("ls: %w", err)
	}
	defer f.Close()
	list := []listEntry{}
	segment := -1
	found := false
	_, err = archive.Walk(f, func(e archive.Entry) error {
		if !only.match(e.Name) {
			return nil
		}
		found = true
		x, err := newListEntry(e)
		if err != nil {
			return err
		}
		if o.json {
			list = append(list, x)
			return nil
		}
		if o.long && e.Segment.Number != segment {
			segment = e.Segment.Number
			early := ""
			if e.Segment.Early {
				early = ", read before any is unpacked"
			}
			if _, err := fmt.Fprintf(w, "segment %d, compression %s, at byte %d%s\n", segment, e.Segment.Codec, e.Segment.Offset, early); err != nil {
				return err
			}
		}
		return x.print(w, e.Header, o.long)
	})
	if o.json {
		j := json.NewEncoder(w)
		j.SetIndent("", "  ")
		if jerr := j.Encode(list); err == nil {
			err = jerr
		}
	}
	if err == nil && !found && len(args) > 0 {
		err = fmt.Errorf("nothing in it matches %s", strings.Join(args, " "))
	}
	if err != nil {
		return fmt.Errorf("ls %s: %w", image, err)
	}
	return nil
}

// types are the names of the types, and the letters that ls(1) has for them.
var types = map[uint32]struct {
	name   string
	letter byte
}{
	newc.TypeRegular: {"file", '-'}, newc.TypeDirectory: {"directory", 'd'}, newc.TypeSymlink: {"symlink", 'l'},
	newc.TypeChar: {"char", 'c'}, newc.TypeBlock: {"block", 'b'}, newc.TypeFIFO: {"fifo", 'p'}, newc.TypeSocket: {"socket", 's'},
}

func newListEntry(e archive.Entry) (listEntry, error) {
	x := listEntry{
		Path: e.Name, Segment: e.Segment.Number, Codec: e.Segment.Codec, Early: e.Segment.Early, Type: types[e.Type()].name, Mode: fmt.Sprintf("%04o", e.Perm()),
		UID: e.UID, GID: e.GID, Links: e.NLink, MTime: e.MTime, Size: e.Size,
	}
	switch e.Type() {
	case newc.TypeSymlink:
		target, err := io.ReadAll(e.Data)
		if err != nil {
			return x, err
		}
		x.Target = string(target)
	case newc.TypeChar, newc.TypeBlock:
		x.Device = fmt.Sprintf("%d,%d", e.RDevMajor, e.RDevMinor)
	}
	return x, nil
}

func (x listEntry) print(w io.Writer, h *newc.Header, long bool) error {
	if !long {
		_, err := fmt.Fprintln(w, printable(x.Path))
		return err
	}
	size := strconv.FormatInt(x.Size, 10)
	if x.Device != "" {
		size = x.Device
	}
	name := printable(x.Path)
	if x.Target != "" {
		name += " -> " + printable(x.Target)
	}
	_, err := fmt.Fprintf(w, "%s %5s %10s %s\n", modeString(h), fmt.Sprintf("%d:%d", x.UID, x.GID), size, name)
	return err
}

// modeString is the mode as ls(1) shows it: "-rwsr-xr-x".
func modeString(h *newc.Header) string {
	b := []byte("?rwxrwxrwx")
	if t, ok := types[h.Type()]; ok {
		b[0] = t.letter
	}
	for i := range 9 {
		if h.Mode>>(8-i)&1 == 0 {
			b[1+i] = '-'
		}
	}
	for i, s := range []struct {
		bit      uint32
		with, on byte
	}{{0o4000, 's', 'S'}, {0o2000, 's', 'S'}, {0o1000, 't', 'T'}} {
		if at := 3 * (i + 1); h.Mode&s.bit != 0 {
			if b[at] == 'x' {
				b[at] = s.with
			} else {
				b[at] = s.on
			}
		}
	}
	return string(b)
}

// printable quotes what would not reach a terminal as it is.
func printable(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}
