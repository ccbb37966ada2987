package unpack

import (
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"

	"storeboot/internal/newc"
)

// Limits of the kernel's path walk.
const (
	maxComponent = 255 // NAME_MAX
	maxLinks     = 40  // symbolic links in one walk, MAXSYMLINKS
)

// Node is a file of the unpacked tree.
type Node struct {
	Mode      uint32 // type and permissions
	UID, GID  uint32
	MTime     uint32
	RDevMajor uint32
	RDevMinor uint32
	NLink     int
	Size      int64
	Target    string // of a symbolic link
	// Cut says that the input ended in its data: the kernel never closes it,
	// and does not run what is open for writing.
	Cut bool
	// Segment and Offset say where the entry is that made it; Segment is -1
	// for what the kernel itself makes.
	Segment int
	Offset  int64

	data     int64 // where its data is in the spool
	stored   int64 // of Size; the rest is zero bytes
	patch    *Node // data over that, from the second of two linked entries
	children map[string]*Node
	parent   *Node
}

// Type is the type bits of the mode.
func (n *Node) Type() uint32 { return n.Mode & newc.TypeMask }

// IsDir says whether it is a directory.
func (n *Node) IsDir() bool { return n.Type() == newc.TypeDirectory }

// Tree is the file system that the kernel boots with.
type Tree struct {
	root  *Node
	spool *Spool
}

// newTree has what the kernel's built-in archive has, where no other is built
// in: usr/default_cpio_list.
func newTree(s *Spool) *Tree {
	dir := func(parent *Node, perm uint32) *Node {
		return &Node{Mode: newc.TypeDirectory | perm, NLink: 2, Segment: -1, children: map[string]*Node{}, parent: parent}
	}
	t := &Tree{root: dir(nil, 0o755), spool: s}
	t.root.parent = t.root
	dev := dir(t.root, 0o755)
	dev.children["console"] = &Node{Mode: newc.TypeChar | 0o600, RDevMajor: 5, RDevMinor: 1, NLink: 1, Segment: -1, parent: dev}
	t.root.children["dev"] = dev
	t.root.children["root"] = dir(t.root, 0o700)
	return t
}

// Open reads a regular file.
func (t *Tree) Open(n *Node) *io.SectionReader {
	return io.NewSectionReader(content{t.spool, n}, 0, n.Size)
}

// content is a file's data with what the kernel makes of a part that is missing.
type content struct {
	s *Spool
	n *Node
}

func (c content) ReadAt(p []byte, off int64) (int, error) {
	if off >= c.n.Size {
		return 0, io.EOF
	}
	cut := int64(len(p)) > c.n.Size-off
	p = p[:min(int64(len(p)), c.n.Size-off)]
	clear(p)
	if k := min(int64(len(p)), c.n.stored-off); k > 0 {
		if _, err := c.s.ReadAt(p[:k], c.n.data+off); err != nil {
			return 0, err
		}
	}
	if o := c.n.patch; o != nil && off < o.Size {
		if _, err := (content{c.s, o}).ReadAt(p[:min(int64(len(p)), o.Size-off)], off); err != nil {
			return 0, err
		}
	}
	if cut {
		return len(p), io.EOF
	}
	return len(p), nil
}

// All are all files but the root with their paths, "/etc/fstab", sorted,
// directories before what is in them.
func (t *Tree) All() iter.Seq2[string, *Node] {
	return func(yield func(string, *Node) bool) { walk("", t.root, yield) }
}

func walk(path string, n *Node, yield func(string, *Node) bool) bool {
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		c, p := n.children[name], path+"/"+name
		if !yield(p, c) || !walk(p, c, yield) {
			return false
		}
	}
	return true
}

// Lookup returns the file at path, through symbolic links, also at its end; nil
// if there is none.
func (t *Tree) Lookup(path string) *Node {
	n, err := t.resolve(path, true)
	if err != nil {
		return nil
	}
	return n
}

// resolve walks to path; an error says what the kernel would.
func (t *Tree) resolve(path string, follow bool) (*Node, error) {
	dir, name, err := t.place(path)
	if err != nil {
		return nil, err
	}
	if name == "" {
		return dir, nil
	}
	links := 0
	n, ok := dir.children[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, errNotThere)
	}
	if follow && n.Type() == newc.TypeSymlink {
		return t.step(dir, n, &links)
	}
	return n, nil
}

// place returns the directory that path's last component is in, and that
// component; it is "" if the path ends in ".", ".." or is the root. A slash at
// the end is left to the caller.
func (t *Tree) place(path string) (*Node, string, error) {
	if path == "" {
		return nil, "", errNotThere
	}
	links := 0
	path = strings.TrimRight(path, "/")
	i := strings.LastIndexByte(path, '/')
	dir, err := t.descend(t.root, path[:max(i, 0)], &links)
	if err != nil {
		return nil, "", err
	}
	switch name := path[i+1:]; {
	case name == "" || name == ".":
		return dir, "", nil
	case name == "..":
		return dir.parent, "", nil
	case len(name) > maxComponent:
		return nil, "", errLongName
	default:
		return dir, name, nil
	}
}

// descend walks directories.
func (t *Tree) descend(n *Node, path string, links *int) (*Node, error) {
	for name := range strings.SplitSeq(path, "/") {
		switch name {
		case "", ".":
			continue
		case "..":
			n = n.parent
			continue
		}
		if len(name) > maxComponent {
			return nil, errLongName
		}
		c, ok := n.children[name]
		if !ok {
			return nil, fmt.Errorf("its directory %s does not exist", strings.TrimSuffix(t.path(n), "/")+"/"+name)
		}
		if c.Type() == newc.TypeSymlink {
			var err error
			if c, err = t.step(n, c, links); err != nil {
				return nil, err
			}
		}
		if !c.IsDir() {
			return nil, fmt.Errorf("%s is no directory", strings.TrimSuffix(t.path(n), "/")+"/"+name)
		}
		n = c
	}
	return n, nil
}

// step follows a symbolic link in dir.
func (t *Tree) step(dir, link *Node, links *int) (*Node, error) {
	if *links++; *links > maxLinks {
		return nil, errLoop
	}
	start := dir
	if strings.HasPrefix(link.Target, "/") {
		start = t.root
	}
	path := strings.TrimRight(link.Target, "/")
	i := strings.LastIndexByte(path, '/')
	dir, err := t.descend(start, path[:max(i, 0)], links)
	if err != nil {
		return nil, err
	}
	switch name := path[i+1:]; name {
	case "", ".":
		return dir, nil
	case "..":
		return dir.parent, nil
	default:
		c, ok := dir.children[name]
		if !ok {
			return nil, fmt.Errorf("the symbolic link to %s leads nowhere", link.Target)
		}
		if c.Type() == newc.TypeSymlink {
			return t.step(dir, c, links)
		}
		return c, nil
	}
}

// path is the path of a directory, for messages.
func (t *Tree) path(n *Node) string {
	out := ""
	for ; n != t.root; n = n.parent {
		for name, c := range n.parent.children {
			if c == n {
				out = "/" + name + out
				break
			}
		}
	}
	if out == "" {
		return "/"
	}
	return out
}
