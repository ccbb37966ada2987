package treemap

import (
	"path"
	"slices"
	"strings"
)

// kind is what a file in an initrd is for; each has a colour.
type kind struct{ class, name string }

var (
	module   = kind{"m", "kernel modules"}
	firmware = kind{"f", "firmware"}
	library  = kind{"l", "libraries"}
	program  = kind{"p", "programs"}
	other    = kind{"o", "all else"}
	kinds    = []kind{program, library, module, firmware, other}
)

// kindOf decides by the path, since that is all that is known.
func kindOf(file string) kind {
	base, dirs := path.Base(file), strings.Split(path.Dir(file), "/")
	in := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(dirs, n) })
	}
	stem, _, _ := strings.Cut(base, ".ko")
	switch {
	case stem != base && slices.Contains([]string{".ko", ".ko.gz", ".ko.xz", ".ko.zst"}, base[len(stem):]):
		return module
	case in("firmware", "microcode"):
		return firmware
	case strings.HasSuffix(base, ".so"), strings.Contains(base, ".so."):
		return library
	case in("bin", "sbin", "libexec"), strings.Trim(file, "/") == "init":
		return program
	}
	return other
}

// leaf is a file with its whole path.
type leaf struct {
	path string
	size int64
}

// leaves are all files below n, in the order of the tree.
func leaves(n *Node, at string) []leaf {
	if len(n.Children) == 0 {
		return []leaf{{at, n.Size}}
	}
	var out []leaf
	for _, c := range n.Children {
		out = append(out, leaves(c, at+"/"+c.Name)...)
	}
	return out
}
