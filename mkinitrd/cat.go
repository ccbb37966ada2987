package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/newc"
	"storeboot/mkinitrd/archive"
)

func newCatCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cat IMAGE PATH",
		Short: "Print a file of an initrd",
		Long: `cat prints the file at PATH in an initrd. If there are several at that place,
it is the last one, which the kernel leaves there.`,
		Example: `  mkinitrd cat initrd /etc/storeboot/boot.json | jq .modules`,
		Args:    cli.ExactArgs("IMAGE", "PATH"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := printFile(c.OutOrStdout(), args[0], args[1]); err != nil {
				return fmt.Errorf("cat %s: %w", args[0], err)
			}
			return nil
		},
	}
}

// printFile reads the initrd twice: which entry is the last one is known at
// its end.
func printFile(w io.Writer, file, name string) error {
	f, err := openInitrd(file)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := f.initrd()
	if err != nil {
		return err
	}
	wanted, err := locate(r, name)
	if err != nil {
		return err
	}
	if r, err = f.initrd(); err != nil {
		return err
	}
	at := -1
	_, err = archive.Walk(r, func(e archive.Entry) error {
		if at++; at < wanted {
			return nil
		}
		if _, err := io.Copy(w, e.Data); err != nil {
			return err
		}
		return archive.ErrStop
	})
	return err
}

// locate returns the number of the entry that has the data of the file.
func locate(r io.Reader, name string) (int, error) {
	name = cleanName(name)
	// A file of several names has its data under any of them.
	type inode struct {
		archive         int
		major, minor, n uint32
	}
	inodeOf := func(e archive.Entry) inode { return inode{e.Archive, e.DevMajor, e.DevMinor, e.Ino} }
	data := map[inode]int{}
	found, at := -1, -1
	var last newc.Header
	var lastInode inode
	target := ""
	_, err := archive.Walk(r, func(e archive.Entry) error {
		at++
		if e.Type() == newc.TypeRegular && e.NLink >= 2 && e.Size > 0 {
			data[inodeOf(e)] = at
		}
		if cleanName(e.Name) != name {
			return nil
		}
		found, last, lastInode = at, *e.Header, inodeOf(e)
		if e.Type() == newc.TypeSymlink {
			b, err := io.ReadAll(e.Data)
			target = string(b)
			return err
		}
		return nil
	})
	switch {
	case err != nil:
		return 0, err
	case found < 0:
		return 0, fmt.Errorf("%s: no such file in it", name)
	case last.Type() == newc.TypeSymlink:
		return 0, fmt.Errorf("%s: is a symbolic link to %s", name, target)
	case last.Type() != newc.TypeRegular:
		return 0, fmt.Errorf("%s: is a %s, not a file", name, types[last.Type()].name)
	}
	if n, ok := data[lastInode]; ok && last.NLink >= 2 {
		return n, nil
	}
	return found, nil
}
