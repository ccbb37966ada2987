package ingest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/nar"
)

const (
	// maxTarPath is the longest path in an archive, in bytes: PATH_MAX. It
	// also bounds how deep a tree can be.
	maxTarPath = 4096
	// maxTarNodes is how many nodes an archive may have. No archive of files
	// has as many; each costs some hundred bytes.
	maxTarNodes = 1 << 25
)

// tarTree is the tree of an archive.
type tarTree struct {
	top   *tarNode // the directory that holds what the archive holds
	named bool     // the archive has an entry for top itself
	nodes int
}

// tarNode is a directory (children), a file or a symlink (neither).
type tarNode struct {
	children map[string]*tarNode
	file     *file
	target   string
}

func newTarDirectory() *tarNode { return &tarNode{children: map[string]*tarNode{}} }

// split is where a path of the archive leads.
func split(path string) ([]string, error) {
	if len(path) > maxTarPath {
		return nil, fmt.Errorf("a path of %d bytes is longer than %d", len(path), maxTarPath)
	}
	var names []string
	for name := range strings.SplitSeq(path, "/") {
		switch name {
		case "", ".":
		case "..":
			if len(names) == 0 {
				return nil, errors.New("the path leads out of the archive")
			}
			names = names[:len(names)-1]
		default:
			if err := castore.CheckName(name); err != nil {
				return nil, err
			}
			names = append(names, name)
		}
	}
	return names, nil
}

// add puts n at path.
func (t *tarTree) add(path string, n *tarNode) error {
	names, err := split(path)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		if n.children == nil {
			return errors.New("the root of the archive has to be a directory")
		}
		t.named = true
		return nil
	}
	if t.nodes += len(names); t.nodes > maxTarNodes {
		return fmt.Errorf("more than %d entries", maxTarNodes)
	}
	dir := t.top
	last := len(names) - 1
	for _, name := range names[:last] {
		next := dir.children[name]
		if next == nil || next.children == nil {
			next = newTarDirectory()
			dir.children[name] = next
		}
		dir = next
	}
	if before := dir.children[names[last]]; before != nil && before.children != nil && n.children != nil {
		return nil // the same directory once more
	}
	dir.children[names[last]] = n
	return nil
}

// file finds the file at path.
func (t *tarTree) file(path string) (*tarNode, error) {
	names, err := split(path)
	if err != nil {
		return nil, err
	}
	n := t.top
	for _, name := range names {
		if n = n.children[name]; n == nil {
			break
		}
	}
	if n == nil || n.file == nil {
		return nil, fmt.Errorf("%q is no file that comes before it in the archive", path)
	}
	return n, nil
}

// root is the tree to be stored.
func (t *tarTree) root() (*tarNode, error) {
	switch {
	case t.named:
		return t.top, nil
	case len(t.top.children) == 0:
		return nil, errors.New("the archive is empty")
	case len(t.top.children) > 1:
		return nil, fmt.Errorf("%d top-level entries instead of one: make the archive of their directory, with 'tar -C DIR -c .'", len(t.top.children))
	}
	for _, n := range t.top.children {
		return n, nil
	}
	panic("not reached")
}

// tarStorer stores directories, and makes the NAR of what is stored.
type tarStorer struct {
	ctx    context.Context
	blobs  castore.BlobService
	putter castore.DirectoryPutter
	nar    *nar.Writer
	buf    []byte
}

// storeTar stores the directories of a tree whose files are stored.
func storeTar(ctx context.Context, blobs castore.BlobService, dirs castore.DirectoryService, root *tarNode) (Result, error) {
	putter, err := dirs.Put(ctx)
	if err != nil {
		return Result{}, err
	}
	defer putter.Abort()
	sum := &hashSize{Hash: sha256.New()}
	s := &tarStorer{ctx, blobs, putter, nar.NewWriter(sum), make([]byte, chunkSize)}
	node, err := s.node(root)
	if err == nil {
		err = s.nar.Close()
	}
	if err == nil && node.Kind == castore.KindDirectory {
		_, err = putter.Close()
	}
	if err != nil {
		return Result{}, err
	}
	return Result{Node: node, NarSize: sum.size, NarSHA256: [sha256.Size]byte(sum.Sum(nil))}, nil
}

// node stores a tree. It recurses at most maxTarPath/2 times.
func (s *tarStorer) node(n *tarNode) (castore.Node, error) {
	switch {
	case n.file != nil:
		return s.file(n.file)
	case n.children == nil:
		return castore.Node{Kind: castore.KindSymlink, Target: n.target}, s.nar.Symlink(n.target)
	}
	if err := s.nar.Directory(); err != nil {
		return castore.Node{}, err
	}
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	slices.Sort(names)
	entries := make([]castore.Entry, 0, len(names))
	for _, name := range names {
		if err := s.nar.Entry(name); err != nil {
			return castore.Node{}, err
		}
		child, err := s.node(n.children[name])
		if err != nil {
			return castore.Node{}, err
		}
		entries = append(entries, castore.Entry{Name: name, Node: child})
	}
	d, err := castore.NewDirectory(entries)
	if err != nil {
		return castore.Node{}, err
	}
	if _, err := s.putter.Put(d); err != nil {
		return castore.Node{}, err
	}
	return d.Node(), s.nar.EndDirectory()
}

func (s *tarStorer) file(f *file) (castore.Node, error) {
	n := castore.Node{Kind: castore.KindFile, Size: f.size, Executable: f.executable, Digest: f.digest}
	b, err := s.blobs.Open(s.ctx, f.digest)
	if err != nil {
		return n, err
	}
	defer b.Close()
	if err := s.nar.File(f.size, f.executable); err != nil {
		return n, err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{s.nar}, io.NewSectionReader(b, 0, b.Size()), s.buf)
	return n, err
}
