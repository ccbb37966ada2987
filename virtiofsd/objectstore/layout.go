package objectstore

import "storeboot/virtiofsd/castore"

// space is one of the four kinds of objects.
type space string

const (
	chunkSpace space = "chunks"
	blobSpace  space = "blobs"
	dirSpace   space = "dirs"
	innerSpace space = "inner"
)

// key is the key of the object of d. The shard is two bytes of the digest, four
// digits.
func (s space) key(d castore.Digest) string {
	hex := d.Hex()
	return string(s) + "/b3/" + hex[:4] + "/" + hex
}

const (
	// maxChunk is the longest chunk in bytes: the longest that the chunker of
	// snix can be set to make.
	maxChunk = 16 << 20
	// maxStoredChunk is the longest chunk as stored. What does not compress
	// grows a little.
	maxStoredChunk = maxChunk + maxChunk/128 + 1<<10
	// maxIndex is the longest index in bytes, enough for 6 million chunks.
	maxIndex = 256 << 20
)
