package verify

import (
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
)

// Kind is what can be damaged.
type Kind string

const (
	Blob      Kind = "blob"
	Directory Kind = "directory"
	PathInfo  Kind = "path info"
)

// Damage is one thing that is not as it should be.
type Damage struct {
	Kind   Kind
	Digest castore.Digest // of a blob or directory
	Hash   storepath.Hash // of a path info
	Err    error          // what is wrong
	Paths  []storepath.StorePath
}

// Name names what is damaged within its kind.
func (d Damage) Name() string {
	if d.Kind == PathInfo {
		return d.Hash.String()
	}
	return d.Digest.String()
}

// Report says what was checked and what is damaged.
type Report struct {
	Paths       int
	Directories int // each once
	Blobs       int // each once
	BlobBytes   int64
	// Damaged is in the order of kinds and names.
	Damaged []Damage
	// Removed is how many damaged things, and path infos of store paths that
	// need them, were removed.
	Removed int
}
