package storefs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"sort"
	"strings"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"storeboot/virtiofsd/castore"
)

// The layout of an entry of a READDIRPLUS answer (Linux, uapi/linux/fuse.h):
// fuse_entry_out, with a fuse_attr at its end, and fuse_dirent with the name,
// padded to eight bytes.
const (
	entryOutSize = 128
	entryAttr    = 40 // where the attributes are in an entry
	attrSize     = 88
	direntSize   = 24
	entryHead    = entryOutSize + direntSize
	direntOff    = entryOutSize + 8
)

// dots is the number of entries before the first child: "." and "..". The offset
// of an entry in a listing is the number of entries up to it and with it.
const dots = 2

// dir is a directory as guests are told of it: the answers about its children
// are there encoded, but that inode numbers count from that of the directory.
// It does not change.
type dir struct {
	image    []byte   // the READDIRPLUS entries of the children, by name
	starts   []uint32 // where in image a child's begins; one more for the end
	position []uint64 // of a child, from the directory on
	children []child
	width    uint64 // positions that the children take
}

// child is what an entry does not say.
type child struct {
	digest castore.Digest
	target string // of a symlink
}

// maxImage bounds the encoded entries of one directory, in bytes: some ten
// million of them.
const maxImage = 1 << 31

// newDir encodes a directory.
func newDir(d *castore.Directory) (*dir, error) { return encodeDir(d.Entries(), 1) }

// encodeDir encodes entries, the first of which has the position first.
func encodeDir(entries []castore.Entry, first uint64) (*dir, error) {
	total := 0
	for i := range entries {
		total += align8(entryHead + len(entries[i].Name))
	}
	if total > maxImage {
		return nil, fmt.Errorf("its %d entries are too many", len(entries))
	}
	d := &dir{
		image:    make([]byte, total),
		starts:   make([]uint32, len(entries)+1),
		position: make([]uint64, len(entries)),
		children: make([]child, len(entries)),
	}
	same := newSameNodes(len(entries))
	start, position := 0, first
	for i := range entries {
		e := &entries[i]
		d.starts[i], d.position[i] = uint32(start), position
		number := position
		d.children[i].digest = e.Digest
		if e.Kind == castore.KindSymlink {
			d.children[i].target = strings.Clone(e.Target)
		}
		if e.Kind != castore.KindDirectory {
			number = d.position[same.first(entries, i)]
		}
		start += encodeEntry(d.image[start:], e, number, uint64(i)+1+dots)
		position += treeWidth(e.Node)
	}
	d.starts[len(entries)], d.width = uint32(start), position-first
	return d, nil
}

func align8(n int) int { return (n + 7) &^ 7 }

// encodeEntry writes the entry of a child and returns its length.
func encodeEntry(b []byte, e *castore.Entry, number, offset uint64) int {
	out := entryOut(b)
	out.NodeId = number
	fillAttr(&out.Attr, number, e.Node)
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	binary.NativeEndian.PutUint64(b[entryOutSize:], number)
	binary.NativeEndian.PutUint64(b[direntOff:], offset)
	binary.NativeEndian.PutUint32(b[entryOutSize+16:], uint32(len(e.Name)))
	binary.NativeEndian.PutUint32(b[entryOutSize+20:], out.Mode>>12)
	return align8(entryHead + copy(b[entryHead:], e.Name))
}

// cost is about what the directory takes in memory, in bytes.
func (d *dir) cost() int { return 160 + len(d.image) + 60*len(d.children) }

func (d *dir) entry(i int) []byte { return d.image[d.starts[i]:d.starts[i+1]] }

func (d *dir) out(i int) *fuse.EntryOut { return entryOut(d.image[d.starts[i]:]) }

// entryOut is the fuse_entry_out at the begin of b, which lies at a multiple of
// eight bytes of an allocation.
func entryOut(b []byte) *fuse.EntryOut {
	return (*fuse.EntryOut)(unsafe.Pointer((*[entryOutSize]byte)(b)))
}

func (d *dir) name(i int) []byte {
	b := d.image[d.starts[i]:]
	return b[entryHead:][:binary.NativeEndian.Uint32(b[entryOutSize+16:])]
}

// number is the inode number of a child, from the directory's on. Files with
// equal contents share one, and so do equal symlinks.
func (d *dir) number(i int) uint64 { return binary.NativeEndian.Uint64(d.image[d.starts[i]:]) }

func (d *dir) kind(i int) castore.Kind {
	switch d.out(i).Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		return castore.KindDirectory
	case syscall.S_IFLNK:
		return castore.KindSymlink
	}
	return castore.KindFile
}

// lookup finds a child by its name, -1 if there is none.
func (d *dir) lookup(name []byte) int {
	low, high := 0, len(d.children)
	for low < high {
		mid := int(uint(low+high) >> 1)
		switch c := bytes.Compare(d.name(mid), name); {
		case c == 0:
			return mid
		case c < 0:
			low = mid + 1
		default:
			high = mid
		}
	}
	return -1
}

// room is how many positions a child leaves for those below it.
func (d *dir) room(i int) uint64 {
	end := d.position[0] + d.width
	if i+1 < len(d.position) {
		end = d.position[i+1]
	}
	return end - d.position[i] - 1
}

// at finds the child that a position belongs to: its own or one below it.
func (d *dir) at(position uint64) int {
	return sort.Search(len(d.position), func(i int) bool { return d.position[i] > position }) - 1
}

// plus writes the entries from child i on to b, as many as fit, with the inode
// numbers that they have in a directory whose own is base.
func (d *dir) plus(b []byte, i int, base uint64) int {
	begin := d.starts[i]
	j := sort.Search(len(d.children)-i, func(k int) bool { return int(d.starts[i+k+1]-begin) > len(b) }) + i
	n := copy(b, d.image[begin:d.starts[j]])
	for ; i < j; i++ {
		number := base + d.number(i)
		at := b[d.starts[i]-begin:]
		binary.NativeEndian.PutUint64(at, number)
		binary.NativeEndian.PutUint64(at[entryAttr:], number)
		binary.NativeEndian.PutUint64(at[entryOutSize:], number)
	}
	return n
}

// plain writes entries as plus does, for READDIR.
func (d *dir) plain(b []byte, i int, base uint64) int {
	n := 0
	for ; i < len(d.children); i++ {
		e := d.entry(i)[entryOutSize:]
		if len(b)-n < len(e) {
			break
		}
		copy(b[n:], e)
		binary.NativeEndian.PutUint64(b[n:], base+d.number(i))
		n += len(e)
	}
	return n
}

// dotEntry writes "." or ".." to b: with plus a fuse_entry_out without an inode
// before it, as neither is to be looked up. It returns 0 if it does not fit.
func dotEntry(b []byte, number, offset uint64, plus bool) int {
	n := align8(direntSize + int(offset))
	if plus {
		n += entryOutSize
	}
	if len(b) < n {
		return 0
	}
	clear(b[:n])
	if plus {
		b = b[entryOutSize:]
	}
	binary.NativeEndian.PutUint64(b, number)
	binary.NativeEndian.PutUint64(b[8:], offset)
	binary.NativeEndian.PutUint32(b[16:], uint32(offset)) // the length of the name
	binary.NativeEndian.PutUint32(b[20:], syscall.S_IFDIR>>12)
	copy(b[direntSize:], ".."[:offset])
	return n
}

// sameNodes finds the files and symlinks of one directory that are equal: a hash
// table of their indices plus one, with open addressing.
type sameNodes struct {
	slots []uint32
	seed  maphash.Seed
}

func newSameNodes(n int) *sameNodes {
	if n < 2 {
		return nil
	}
	size := 4
	for size < 2*n {
		size *= 2
	}
	return &sameNodes{slots: make([]uint32, size), seed: maphash.MakeSeed()}
}

// first returns the index of the first entry that is equal to the i-th.
func (s *sameNodes) first(entries []castore.Entry, i int) int {
	if s == nil {
		return i
	}
	e := &entries[i].Node
	var hash uint64
	if e.Kind == castore.KindSymlink {
		hash = maphash.String(s.seed, e.Target)
	} else {
		hash = binary.LittleEndian.Uint64(e.Digest[:])
	}
	for mask := uint64(len(s.slots) - 1); ; hash++ {
		slot := &s.slots[hash&mask]
		if *slot == 0 {
			*slot = uint32(i) + 1
			return i
		}
		if j := int(*slot - 1); entries[j].Node == *e {
			return j
		}
	}
}
