package compare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"storeboot/internal/newc"
	"storeboot/mkinitrd/unpack"
)

// Change is what happened to a file.
type Change string

const (
	Added   Change = "added"
	Removed Change = "removed"
	Changed Change = "changed"
)

// Difference is about one path.
type Difference struct {
	Path    string `json:"path"`
	Change  Change `json:"change"`
	OldSize int64  `json:"old_size"` // bytes, 0 for what is no regular file
	NewSize int64  `json:"new_size"`
	// What says what differs: "mode 0644 -> 0755", "content".
	What []string `json:"what"`
	// Detail says what is different in the content.
	Detail []string `json:"detail,omitempty"`
}

// Trees returns the differences from old to new, sorted by path; none is an
// empty list. What the kernel has of its own is left out.
func Trees(old, new *unpack.Tree) ([]Difference, error) {
	a, b := files(old), files(new)
	paths := slices.Collect(maps.Keys(a))
	for p := range b {
		if a[p] == nil {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	list := []Difference{}
	for _, p := range paths {
		x, y := a[p], b[p]
		switch {
		case x == nil:
			list = append(list, Difference{p, Added, 0, bytesOf(y), []string{describe(y)}, nil})
		case y == nil:
			list = append(list, Difference{p, Removed, bytesOf(x), 0, []string{describe(x)}, nil})
		default:
			d := Difference{Path: p, Change: Changed, OldSize: bytesOf(x), NewSize: bytesOf(y)}
			if err := d.find(old, new, x, y); err != nil {
				return nil, fmt.Errorf("%s: %w", p, err)
			}
			if len(d.What) > 0 {
				list = append(list, d)
			}
		}
	}
	return list, nil
}

func files(t *unpack.Tree) map[string]*unpack.Node {
	out := map[string]*unpack.Node{}
	for p, n := range t.All() {
		if n.Segment >= 0 {
			out[p] = n
		}
	}
	return out
}

func bytesOf(n *unpack.Node) int64 {
	if n.Type() == newc.TypeRegular {
		return n.Size
	}
	return 0
}

// kinds are the file types in words.
func kind(n *unpack.Node) string {
	switch n.Type() {
	case newc.TypeRegular:
		return "file"
	case newc.TypeDirectory:
		return "directory"
	case newc.TypeSymlink:
		return "symlink"
	case newc.TypeChar:
		return "character device"
	case newc.TypeBlock:
		return "block device"
	case newc.TypeFIFO:
		return "fifo"
	default:
		return "socket"
	}
}

func describe(n *unpack.Node) string {
	switch n.Type() {
	case newc.TypeRegular:
		return fmt.Sprintf("file, %d bytes", n.Size)
	case newc.TypeSymlink:
		return "symlink to " + n.Target
	case newc.TypeChar, newc.TypeBlock:
		return fmt.Sprintf("%s %d:%d", kind(n), n.RDevMajor, n.RDevMinor)
	}
	return kind(n)
}

func (d *Difference) find(old, new *unpack.Tree, x, y *unpack.Node) error {
	say := func(format string, args ...any) { d.What = append(d.What, fmt.Sprintf(format, args...)) }
	if x.Type() != y.Type() {
		say("%s -> %s", describe(x), describe(y))
		return nil
	}
	if x.Mode != y.Mode {
		say("mode %04o -> %04o", x.Mode&^newc.TypeMask, y.Mode&^newc.TypeMask)
	}
	if x.UID != y.UID || x.GID != y.GID {
		say("owner %d:%d -> %d:%d", x.UID, x.GID, y.UID, y.GID)
	}
	switch x.Type() {
	case newc.TypeSymlink:
		if x.Target != y.Target {
			say("target %s -> %s", x.Target, y.Target)
		}
	case newc.TypeChar, newc.TypeBlock:
		if x.RDevMajor != y.RDevMajor || x.RDevMinor != y.RDevMinor {
			say("device %d:%d -> %d:%d", x.RDevMajor, x.RDevMinor, y.RDevMajor, y.RDevMinor)
		}
	case newc.TypeRegular:
		if x.NLink != y.NLink {
			say("names %d -> %d", x.NLink, y.NLink)
		}
		same := x.Size == y.Size
		if same {
			var err error
			if same, err = equal(old.Open(x), new.Open(y)); err != nil {
				return err
			}
		} else {
			say("size %d -> %d (%+d)", x.Size, y.Size, y.Size-x.Size)
		}
		if !same {
			if x.Size == y.Size {
				say("content")
			}
			d.Detail = content(old.Open(x), new.Open(y))
		}
	}
	return nil
}

// equal compares two readers of the same length.
func equal(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(a, x)
		m, err2 := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		end := func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
		if end(err) && end(err2) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if err2 != nil {
			return false, err2
		}
	}
}
