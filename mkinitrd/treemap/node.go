package treemap

import (
	"maps"
	"slices"
	"strings"
)

// Node is a file, or a directory with what is in it.
type Node struct {
	Name     string
	Size     int64 // of it and all that is in it
	Children []*Node
	index    map[string]*Node
}

// Add adds a file of that size at a path below n, "lib/modules/x.ko".
func (n *Node) Add(path string, size int64) {
	n.Size += size
	name, rest, more := strings.Cut(path, "/")
	if n.index == nil {
		n.index = map[string]*Node{}
	}
	c := n.index[name]
	if c == nil {
		c = &Node{Name: name}
		n.index[name] = c
	}
	if more {
		c.Add(rest, size)
	} else {
		c.Size += size
	}
}

// Sort fills the Children of n and of all below it: the largest first, equal
// ones by name.
func (n *Node) Sort() {
	n.Children = slices.Collect(maps.Values(n.index))
	slices.SortFunc(n.Children, func(a, b *Node) int {
		switch {
		case a.Size > b.Size:
			return -1
		case a.Size < b.Size:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	for _, c := range n.Children {
		c.Sort()
	}
}
