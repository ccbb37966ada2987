package narsection

import (
	"context"
	"fmt"

	"storeboot/virtiofsd/castore"
)

const (
	// MaxDirectories is how many distinct directories a tree may have. The
	// sources of nixpkgs have 40,000.
	MaxDirectories = 1 << 20
	// maxSize is the largest NAR, in bytes: one directory may be in a tree many
	// times, so that a few can say that they are without end.
	maxSize = 1 << 62
)

// View is the NAR of one tree. Its methods may be called by several goroutines
// at once.
type View struct {
	root        castore.Node
	size        uint64
	blobs       castore.BlobService
	directories castore.DirectoryService
	sizes       map[castore.Digest]uint64 // of the nodes of directories; not changed after New
}

// New makes a view of the tree at root. It reads all directories and no blob. A
// directory that is missing is castore.ErrNotFound.
func New(ctx context.Context, root castore.Node, blobs castore.BlobService, directories castore.DirectoryService) (*View, error) {
	v := &View{root: root, blobs: blobs, directories: directories, sizes: map[castore.Digest]uint64{}}
	if root.Kind == castore.KindDirectory {
		if err := v.measure(ctx); err != nil {
			return nil, fmt.Errorf("measure NAR: %w", err)
		}
	}
	v.size = stringSize(len(magic)) + v.nodeSize(root)
	return v, nil
}

// Size is the length of the NAR in bytes.
func (v *View) Size() uint64 { return v.size }

// Directories is how many distinct directories the tree has.
func (v *View) Directories() int { return len(v.sizes) }

// measuring is a directory some of whose children are still to be measured.
type measuring struct {
	dir  *castore.Directory
	next int
	sum  uint64
}

// measure fills v.sizes, children before parents.
func (v *View) measure(ctx context.Context) error {
	first, err := v.directory(ctx, v.root)
	if err != nil {
		return err
	}
	for open := []measuring{{dir: first, sum: directorySize}}; len(open) > 0; {
		top := &open[len(open)-1]
		if top.next == len(top.dir.Entries()) {
			v.sizes[top.dir.Digest()] = top.sum
			if len(v.sizes) > MaxDirectories {
				return fmt.Errorf("the tree has more than %d directories", MaxDirectories)
			}
			open = open[:len(open)-1]
			continue
		}
		e := top.dir.Entries()[top.next]
		if e.Kind == castore.KindDirectory {
			if _, known := v.sizes[e.Digest]; !known {
				dir, err := v.directory(ctx, e.Node)
				if err != nil {
					return fmt.Errorf("%q: %w", e.Name, err)
				}
				open = append(open, measuring{dir: dir, sum: directorySize})
				continue // and come back to the entry when it is measured
			}
		}
		top.sum += v.entrySize(e)
		if e.Size > maxSize || top.sum > maxSize {
			return fmt.Errorf("%q: the NAR would be larger than %d bytes", e.Name, uint64(maxSize))
		}
		top.next++
	}
	return nil
}

// directory gets a directory, which has to be what its parent says.
func (v *View) directory(ctx context.Context, n castore.Node) (*castore.Directory, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, err := v.directories.Get(ctx, n.Digest)
	if err != nil {
		return nil, err
	}
	if !dir.HasSize(n.Size) {
		return nil, fmt.Errorf("directory %s has the size %d and not %d, as its parent says", n.Digest, dir.Size(), n.Size)
	}
	return dir, nil
}

// nodeSize is the length of a node; of a directory it has to be known.
func (v *View) nodeSize(n castore.Node) uint64 {
	switch n.Kind {
	case castore.KindSymlink:
		return symlinkSize + stringSize(len(n.Target))
	case castore.KindFile:
		size := regularSize + n.Size + padding(n.Size)
		if n.Executable {
			size += executableSize
		}
		return size
	}
	return v.sizes[n.Digest]
}

// entrySize is the length of an entry of a directory, with its node.
func (v *View) entrySize(e castore.Entry) uint64 {
	return entrySize + stringSize(len(e.Name)) + v.nodeSize(e.Node)
}

const magic = "nix-archive-1"

// The lengths of the words around what differs, in bytes: 16 for a word of up to
// 8 letters, 24 for a longer one.
const (
	directorySize  = 16 + 16 + 24 + 16          // ( type directory )
	symlinkSize    = 16 + 16 + 16 + 16 + 16     // ( type symlink target )
	regularSize    = 16 + 16 + 16 + 16 + 8 + 16 // ( type regular contents LENGTH )
	executableSize = 24 + 8                     // executable ""
	entrySize      = 16 + 16 + 16 + 16 + 16     // entry ( name node )
)

// stringSize is the length of a string of n bytes, with its length and padding.
func stringSize(n int) uint64 { return 8 + uint64(n) + padding(uint64(n)) }

// padding is how many zeros follow n bytes.
func padding(n uint64) uint64 { return -n & 7 }
