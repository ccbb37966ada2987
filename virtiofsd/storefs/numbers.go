package storefs

import (
	"encoding/binary"

	"github.com/zeebo/blake3"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
)

// Inode numbers follow from what is stored, so that a daemon which starts anew,
// or on another machine, gives and understands the same ones without having kept
// anything: a guest with open files goes on.
//
//	1                              the root (FUSE_ROOT_ID)
//	0 | tree (37 bits) | position (26 bits)
//	1 | tree (23 bits) | position (40 bits)
//
// A tree is what one store path holds. Its number in the first form is made of
// the hash of the store path and the digest of its contents. The second form is
// for the few trees that the first cannot name: those too large for it, and the
// second of two that would have the same number. They are numbered as they come,
// and a number of theirs is stale (ESTALE) after a restart.
//
// A position is the place in the tree, as it is read depth first: the tree's own
// node is 0, the first child of a directory follows it, and each child leaves
// room for as many as the size of its node says, which castore counts so that
// all below it fit. A node is found again by going down from the top.
const (
	rootID = 1

	positionBits     = 26
	treeBits         = 37
	widePositionBits = 40
	wideTreeBits     = 23
	wideFlag         = 1 << 63
)

// treeOf is the first part of an inode number, with position 0.
func treeOf(id uint64) uint64 {
	if id&wideFlag != 0 {
		return id &^ (1<<widePositionBits - 1)
	}
	return id &^ (1<<positionBits - 1)
}

// narrowTree is the number of a tree in the first form, 0 if it has none.
func narrowTree(hash storepath.Hash, n castore.Node) uint64 {
	if treeWidth(n) > 1<<positionBits {
		return 0
	}
	digest := n.Digest
	if n.Kind == castore.KindSymlink {
		digest = blake3.Sum256([]byte(n.Target))
	}
	mixed := binary.BigEndian.Uint64(hash[:]) ^ binary.BigEndian.Uint64(digest[:])
	if n.Executable {
		mixed = ^mixed
	}
	return mixed >> (64 - treeBits) << positionBits
}

// treeWidth is how many positions a node takes, with all below it.
func treeWidth(n castore.Node) uint64 {
	if n.Kind != castore.KindDirectory {
		return 1
	}
	if n.Size+1 == 0 {
		return n.Size
	}
	return n.Size + 1
}
