package castore

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/zeebo/blake3"
)

// Directory is an immutable directory: named nodes, in order, with the digest
// and size that follow from them. [NewDirectory] and [ParseDirectory] make one.
type Directory struct {
	entries []Entry // ascending by name
	size    uint64
	digest  Digest
}

// NewDirectory makes a directory of entries in any order. It is an error if a
// name, a target or a kind is not allowed, if a name is there twice, or if the
// size does not fit 64 bits. entries is not kept.
func NewDirectory(entries []Entry) (*Directory, error) {
	own := slices.Clone(entries)
	slices.SortFunc(own, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	d, err := newSorted(own)
	if err != nil {
		return nil, err
	}
	d.digest = Digest(blake3.Sum256(d.Encoded()))
	return d, nil
}

// newSorted checks entries, which are ascending by name, and keeps them.
func newSorted(entries []Entry) (*Directory, error) {
	size := 2 * uint64(len(entries))
	for i, e := range entries {
		if err := e.check(); err != nil {
			return nil, err
		}
		if i > 0 && entries[i-1].Name == e.Name {
			return nil, fmt.Errorf("directory has the name %q twice", e.Name)
		}
		if e.Kind == KindDirectory {
			sum, carry := bits.Add64(size, e.Size, 0)
			if carry != 0 {
				return nil, fmt.Errorf("directory entry %q: its size does not fit 64 bits with those before it", e.Name)
			}
			size = sum
		}
	}
	return &Directory{entries: entries, size: size}, nil
}

// ParseDirectory parses the one canonical encoding of a directory and refuses
// any other encoding of the same: entries out of order, unknown fields, numbers
// longer than need be.
func ParseDirectory(encoded []byte) (*Directory, error) {
	entries, err := parseDirectoryEntries(encoded)
	if err != nil {
		return nil, fmt.Errorf("parse directory: %w", err)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	d, err := newSorted(entries)
	if err != nil {
		return nil, fmt.Errorf("parse directory: %w", err)
	}
	if !bytes.Equal(d.Encoded(), encoded) {
		return nil, errors.New("parse directory: not the canonical encoding (entries out of order, unknown fields or overlong numbers)")
	}
	d.digest = Digest(blake3.Sum256(encoded))
	return d, nil
}

// Entries are the children, ascending by the bytes of their names. The caller
// must not change them.
func (d *Directory) Entries() []Entry { return d.entries }

// Lookup finds the child of that name.
func (d *Directory) Lookup(name string) (Node, bool) {
	i, ok := slices.BinarySearchFunc(d.entries, name, func(e Entry, name string) int { return strings.Compare(e.Name, name) })
	if !ok {
		return Node{}, false
	}
	return d.entries[i].Node, true
}

// Size is the size of the directory as an entry of another one has it: two for
// each of its own entries, and the sizes of those that are directories. So do
// tvix since October 2024 and snix count, which refuse any other number, although
// their protocol's description has one for each entry (Directory::size in
// castore's nodes/directory.rs, run beside ours in tests/peers).
func (d *Directory) Size() uint64 { return d.size }

// HasSize says whether size is that of the directory by either count: the one of
// [Directory.Size], or the older one, in which each entry counts once, as it is in
// stores that earlier versions have filled.
func (d *Directory) HasSize(size uint64) bool {
	return size == d.size || size == d.size-uint64(len(d.entries))
}

// Digest is the digest of the canonical encoding.
func (d *Directory) Digest() Digest { return d.digest }

// Encoded is the canonical encoding, in memory of the caller's own. It is made
// anew at each call, so that a directory in a cache is held once.
func (d *Directory) Encoded() []byte {
	b := make([]byte, 0, 56*len(d.entries))
	for _, kind := range []Kind{KindDirectory, KindFile, KindSymlink} {
		for i := range d.entries {
			if d.entries[i].Kind == kind {
				b = AppendEntry(b, d.entries[i])
			}
		}
	}
	return b
}

// Node is the node by which a parent refers to the directory.
func (d *Directory) Node() Node {
	return Node{Kind: KindDirectory, Size: d.size, Digest: d.digest}
}
