package storefs

import (
	"sync"
	"syscall"

	"storeboot/virtiofsd/castore"
)

// place is where a node is: what an inode number stands for.
type place struct {
	dir  *dir   // that has it; for the top of a tree [tree.self]
	i    int    // which child
	base uint64 // dir's own inode number; for the top of a tree the tree's
}

func (p place) id() uint64             { return p.base + p.dir.number(p.i) }
func (p place) kind() castore.Kind     { return p.dir.kind(p.i) }
func (p place) digest() castore.Digest { return p.dir.children[p.i].digest }
func (p place) target() string         { return p.dir.children[p.i].target }
func (p place) size() uint64           { return p.dir.out(p.i).Size }

// isTop says whether it is the top of a tree, which has the position 0.
func (p place) isTop() bool { return p.dir.position[p.i] == 0 }

// parent is the inode number of the directory that it is in.
func (p place) parent() uint64 {
	if p.isTop() {
		return rootID
	}
	return p.base
}

// room is how many positions what refers to a directory has left for those below
// it.
func (p place) room() uint64 { return p.dir.room(p.i) }

// entry writes a fuse_entry_out.
func (p place) entry(out []byte) {
	copy(out[:entryOutSize], p.dir.image[p.dir.starts[p.i]:])
	id := p.id()
	putU64(out, id)
	putU64(out[entryAttr:], id)
}

// places keeps the places that were found last, by inode number: a table where
// each number has one slot. It holds directories that the cache of directories
// may have let go of; when that has turned over it forgets them.
type places struct {
	shards [placeShards]placeShard
}

const (
	placeShards = 16
	placeSlots  = 64
)

type placeShard struct {
	mu         sync.Mutex
	generation uint64 // of the cache of directories
	slots      *[placeSlots]placeSlot
}

type placeSlot struct {
	id  uint64
	at  place
	sub *dir // what the directory there holds, once it was asked for
}

func (t *places) slot(id uint64) (*placeShard, int) {
	h := id * 0x9E3779B97F4A7C15 // Fibonacci hashing: the numbers are in clusters
	return &t.shards[h>>60], int(h >> 54 % placeSlots)
}

func (t *places) get(id, generation uint64) (at place, sub *dir, ok bool) {
	s, i := t.slot(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots == nil || s.generation != generation || s.slots[i].id != id {
		return place{}, nil, false
	}
	return s.slots[i].at, s.slots[i].sub, true
}

func (t *places) put(id, generation uint64, at place, sub *dir) {
	s, i := t.slot(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots == nil || s.generation != generation {
		s.slots, s.generation = new([placeSlots]placeSlot), generation
	}
	s.slots[i] = placeSlot{id, at, sub}
}

// find returns the place of an inode number other than the root's. ESTALE: there
// is none.
func (m *mount) find(w waiter, id uint64) (place, syscall.Errno) {
	generation := m.fs.dirs.generation.Load()
	if at, _, ok := m.places.get(id, generation); ok {
		return at, 0
	}
	t, err := m.fs.shown.tree(w, m.fs.trees, treeOf(id))
	if err != nil {
		return place{}, m.broken("inode", err)
	}
	if t == nil {
		return place{}, syscall.ESTALE
	}
	at, left := place{t.self, 0, t.id}, id-t.id
	for left > 0 {
		if at.kind() != castore.KindDirectory {
			return place{}, syscall.ESTALE
		}
		d, errno := m.load(w, at)
		if errno != 0 {
			return place{}, errno
		}
		base := at.id()
		i := d.at(left)
		if i < 0 || left > d.width {
			return place{}, syscall.ESTALE
		}
		at = place{d, i, base}
		left -= d.position[i]
	}
	m.places.put(id, generation, at, nil)
	return at, 0
}

// open returns what the directory with an inode number other than the root's
// holds, and the number of the one that it is in.
func (m *mount) open(w waiter, id uint64) (d *dir, parent uint64, errno syscall.Errno) {
	generation := m.fs.dirs.generation.Load()
	at, d, ok := m.places.get(id, generation)
	if d != nil {
		return d, at.parent(), 0
	}
	if !ok {
		if at, errno = m.find(w, id); errno != 0 {
			return nil, 0, errno
		}
	}
	if at.kind() != castore.KindDirectory {
		return nil, 0, syscall.ENOTDIR
	}
	if d, errno = m.load(w, at); errno != 0 {
		return nil, 0, errno
	}
	m.places.put(id, generation, at, d)
	return d, at.parent(), 0
}

// load gets the contents of the directory at a place.
func (m *mount) load(w waiter, at place) (*dir, syscall.Errno) {
	digest := at.digest()
	d, err := m.fs.dirs.load(w, digest)
	if err != nil {
		return nil, m.broken("directory "+digest.String(), err)
	}
	if room := at.room(); d.width > room {
		m.fs.log.Error("cannot serve", "directory", digest, "error", "what refers to it says that it is smaller", "room", room, "positions", d.width)
		return nil, syscall.EIO
	}
	if at.isTop() {
		m.fs.dirs.getAhead(digest)
	}
	return d, 0
}
