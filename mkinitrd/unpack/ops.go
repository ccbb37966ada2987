package unpack

import (
	"errors"

	"storeboot/internal/newc"
)

// What the kernel's calls fail with; it prints none of them.
var (
	errNotThere = errors.New("it has no name")
	errLongName = errors.New("a part of its name is longer than 255 bytes")
	errLoop     = errors.New("symbolic links lead in a circle")
	errIsDir    = errors.New("a directory is in its place")
	errNotEmpty = errors.New("a directory that is not empty is in its place")
	errExists   = errors.New("another file is in its place")
	errSlash    = errors.New("its name ends in a slash, and it is no directory")
	errNoLink   = errors.New("the file that it is another name of was dropped or replaced")
)

// clear makes place for a file of the mode at path: what is there and of
// another type goes, a directory only if it is empty. With mode 0, all goes.
// It has no error; what is left fails the call that follows.
func (t *Tree) clear(path string, mode uint32) {
	dir, name, err := t.place(path)
	if err != nil || name == "" {
		return
	}
	n, ok := dir.children[name]
	if !ok || n.Type() == mode&newc.TypeMask {
		return
	}
	if n.IsDir() {
		if len(n.children) == 0 {
			delete(dir.children, name)
		}
		return
	}
	delete(dir.children, name)
	n.NLink--
}

// create opens a regular file, which it makes if it is not there.
func (t *Tree) create(path string, fresh *Node) (n *Node, made bool, err error) {
	if path != "" && path[len(path)-1] == '/' {
		return nil, false, errSlash
	}
	dir, name, err := t.place(path)
	if err != nil {
		return nil, false, err
	}
	if name == "" {
		return nil, false, errIsDir
	}
	if n, ok := dir.children[name]; ok {
		switch n.Type() {
		case newc.TypeRegular:
			return n, false, nil
		case newc.TypeDirectory:
			return nil, false, errIsDir
		}
		return nil, false, errExists
	}
	fresh.NLink, fresh.parent = 1, dir
	dir.children[name] = fresh
	return fresh, true, nil
}

// mkdir makes a directory; one that is there gets the new owner and mode.
func (t *Tree) mkdir(path string, fresh *Node) (*Node, error) {
	dir, name, err := t.place(path)
	if err != nil {
		return nil, err
	}
	if name == "" {
		own(dir, fresh)
		return dir, nil
	}
	if n, ok := dir.children[name]; ok {
		if !n.IsDir() {
			return nil, errExists
		}
		own(n, fresh)
		return n, nil
	}
	fresh.NLink, fresh.parent, fresh.children = 2, dir, map[string]*Node{}
	dir.children[name] = fresh
	return fresh, nil
}

// mknod makes a device, pipe or socket. One of the type that is there keeps
// its numbers, and gets the new owner and mode.
func (t *Tree) mknod(path string, fresh *Node) (kept bool, err error) {
	dir, name, err := t.placeNew(path)
	if err != nil {
		return false, err
	}
	if n, ok := dir.children[name]; ok {
		if n.IsDir() {
			return false, errNotEmpty
		}
		same := n.RDevMajor == fresh.RDevMajor && n.RDevMinor == fresh.RDevMinor
		own(n, fresh)
		return !same, nil
	}
	fresh.NLink, fresh.parent = 1, dir
	dir.children[name] = fresh
	return false, nil
}

func (t *Tree) symlink(path string, fresh *Node) error {
	dir, name, err := t.placeNew(path)
	if err != nil {
		return err
	}
	if _, ok := dir.children[name]; ok {
		return errNotEmpty
	}
	fresh.NLink, fresh.parent = 1, dir
	dir.children[name] = fresh
	return nil
}

// link gives the file at old the name path.
func (t *Tree) link(old, path string) error {
	n, err := t.resolve(old, false)
	if err != nil || n.IsDir() {
		return errNoLink
	}
	dir, name, err := t.placeNew(path)
	if err != nil {
		return err
	}
	if _, ok := dir.children[name]; ok {
		return errNotEmpty
	}
	n.NLink++
	dir.children[name] = n
	return nil
}

func (t *Tree) placeNew(path string) (*Node, string, error) {
	if path != "" && path[len(path)-1] == '/' {
		return nil, "", errSlash
	}
	dir, name, err := t.place(path)
	if err == nil && name == "" {
		err = errIsDir
	}
	return dir, name, err
}

// own gives n the mode and owner that fresh has.
func own(n, fresh *Node) {
	n.Mode = n.Type() | fresh.Mode&^newc.TypeMask
	n.UID, n.GID, n.MTime = fresh.UID, fresh.GID, fresh.MTime
}
