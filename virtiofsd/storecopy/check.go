package storecopy

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"

	"storeboot/virtiofsd/castore/fileblobs"
	"storeboot/virtiofsd/castorenar"
	"storeboot/virtiofsd/pathinfo"
)

// errLonger ends a NAR that is longer than its path info says.
var errLonger = errors.New("more")

// limitedHash is a hash that takes so many bytes.
type limitedHash struct {
	hash.Hash
	left uint64
}

func (h *limitedHash) Write(p []byte) (int, error) {
	if uint64(len(p)) > h.left {
		return 0, errLonger
	}
	h.left -= uint64(len(p))
	return h.Hash.Write(p)
}

// checkNAR compares the tree with the NAR size and hash of its path info. Both
// stores hold the tree by its digests: the one that is read is the destination
// if its blobs are local files, else the source.
func checkNAR(ctx context.Context, from, to Store, info *pathinfo.PathInfo) error {
	s := from
	if _, ok := to.Blobs.(*fileblobs.Store); ok {
		s = to
	}
	h := &limitedHash{sha256.New(), info.NarSize}
	err := castorenar.Write(ctx, h, info.Node, s.Blobs, s.Directories)
	switch {
	case errors.Is(err, errLonger) || err == nil && h.left > 0:
		return fmt.Errorf("its contents do not have the NAR size of %d bytes that the source says", info.NarSize)
	case err != nil:
		return err
	case [sha256.Size]byte(h.Sum(nil)) != info.NarSHA256:
		return errors.New("its contents do not have the NAR hash that the source says: the source is damaged or wrong")
	}
	return nil
}
