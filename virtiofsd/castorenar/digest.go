package castorenar

import (
	"context"
	"crypto/sha256"
	"hash"

	"storeboot/virtiofsd/castore"
)

// Digest is the size in bytes and the SHA-256 of the NAR that [Write] writes of
// the tree at root, which is what a path info says of it.
func Digest(ctx context.Context, root castore.Node, blobs castore.BlobService, directories castore.DirectoryService) (size uint64, sum [sha256.Size]byte, err error) {
	h := &countingHash{Hash: sha256.New()}
	if err := Write(ctx, h, root, blobs, directories); err != nil {
		return 0, sum, err
	}
	h.Sum(sum[:0])
	return h.size, sum, nil
}

// countingHash is a hash that knows how much it took, in bytes.
type countingHash struct {
	hash.Hash
	size uint64
}

func (c *countingHash) Write(p []byte) (int, error) {
	c.size += uint64(len(p))
	return c.Hash.Write(p)
}
