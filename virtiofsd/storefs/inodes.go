package storefs

import (
	"sync"

	"storeboot/virtiofsd/castore"
)

// rootID is the inode number of the root (FUSE_ROOT_ID).
const rootID = 1

// inode is what one inode number stands for. It does not change.
type inode struct {
	id   uint64
	node castore.Node
	key  inodeKey
}

// inodeKey is what makes an inode the same as another. Files with equal
// contents and symlinks with equal targets share an inode, and so the guest's
// page cache. Directories do not, wherever they are found: the kernel allows a
// directory one place in the tree.
type inodeKey struct {
	kind       castore.Kind
	executable bool
	digest     castore.Digest // of a file
	parent     uint64         // of a directory
	name       string         // of a directory in its parent; target of a symlink
}

func keyOf(parent uint64, name string, n castore.Node) inodeKey {
	switch n.Kind {
	case castore.KindFile:
		return inodeKey{kind: n.Kind, digest: n.Digest, executable: n.Executable}
	case castore.KindSymlink:
		return inodeKey{kind: n.Kind, name: n.Target}
	default:
		return inodeKey{kind: n.Kind, parent: parent, name: name}
	}
}

// inodeTable holds the inodes that the guest's kernel knows of: it counts how
// often it was told of each, and says when it forgets. Numbers are not used
// again.
type inodeTable struct {
	mu    sync.Mutex
	last  uint64
	byID  map[uint64]*counted
	byKey map[inodeKey]*counted
}

type counted struct {
	inode
	lookups uint64
}

func newInodeTable() *inodeTable {
	return &inodeTable{last: rootID, byID: map[uint64]*counted{}, byKey: map[inodeKey]*counted{}}
}

// get returns an inode by its number, nil if the guest cannot know it.
func (t *inodeTable) get(id uint64) *inode {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.byID[id]; c != nil {
		return &c.inode
	}
	return nil
}

// acquire returns the inode of a child, and counts that the guest is told.
func (t *inodeTable) acquire(parent uint64, name string, n castore.Node) *inode {
	key := keyOf(parent, name, n)
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.byKey[key]
	if c == nil {
		t.last++
		c = &counted{inode: inode{id: t.last, node: n, key: key}}
		t.byID[c.id], t.byKey[key] = c, c
	}
	c.lookups++
	return &c.inode
}

// forget takes back n counts. The guest may say nonsense.
func (t *inodeTable) forget(id, n uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.byID[id]
	if c == nil {
		return
	}
	if c.lookups > n {
		c.lookups -= n
		return
	}
	delete(t.byID, id)
	delete(t.byKey, c.key)
}

// size is the number of inodes, without the root.
func (t *inodeTable) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID)
}
