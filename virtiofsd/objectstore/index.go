package objectstore

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"storeboot/virtiofsd/castore"
)

// The fields of StatBlobResponse and its ChunkMeta (spec/store.md 1.1).
const (
	fieldChunks = 2 // StatBlobResponse

	fieldChunkDigest = 1 // ChunkMeta
	fieldChunkSize   = 2
)

// chunkMeta is one chunk of a blob.
type chunkMeta struct {
	digest castore.Digest
	size   int64 // uncompressed, 1 to maxChunk
}

// encodeIndex encodes a StatBlobResponse of chunks.
func encodeIndex(chunks []chunkMeta) []byte {
	b := make([]byte, 0, 40*len(chunks))
	for _, c := range chunks {
		n := 1 + protowire.SizeBytes(castore.DigestSize) + 1 + protowire.SizeVarint(uint64(c.size))
		b = protowire.AppendTag(b, fieldChunks, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(n))
		b = protowire.AppendTag(b, fieldChunkDigest, protowire.BytesType)
		b = protowire.AppendBytes(b, c.digest[:])
		b = protowire.AppendTag(b, fieldChunkSize, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(c.size))
	}
	return b
}

// parseIndex parses and checks a StatBlobResponse. Fields that it does not know
// count for nothing, as in any protobuf message. Empty chunks, which change
// nothing, are left out.
func parseIndex(b []byte) ([]chunkMeta, error) {
	var chunks []chunkMeta
	var total int64
	for len(b) > 0 {
		field, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, fmt.Errorf("parse chunk index: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if field != fieldChunks {
			if n = protowire.ConsumeFieldValue(field, wire, b); n < 0 {
				return nil, fmt.Errorf("parse chunk index: %w", protowire.ParseError(n))
			}
			b = b[n:]
			continue
		}
		if wire != protowire.BytesType {
			return nil, fmt.Errorf("parse chunk index: chunk of wire type %d", wire)
		}
		message, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return nil, fmt.Errorf("parse chunk index: %w", protowire.ParseError(n))
		}
		b = b[n:]
		c, err := parseChunkMeta(message)
		if err != nil {
			return nil, fmt.Errorf("parse chunk index: chunk %d: %w", len(chunks), err)
		}
		if c.size == 0 {
			continue
		}
		if total > math.MaxInt64-c.size {
			return nil, errors.New("parse chunk index: the size of the blob does not fit 63 bits")
		}
		total += c.size
		chunks = append(chunks, c)
	}
	return chunks, nil
}

func parseChunkMeta(b []byte) (chunkMeta, error) {
	var c chunkMeta
	hasDigest := false
	for len(b) > 0 {
		field, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return c, protowire.ParseError(n)
		}
		b = b[n:]
		switch {
		case field == fieldChunkDigest && wire == protowire.BytesType:
			var raw []byte
			if raw, n = protowire.ConsumeBytes(b); n >= 0 {
				d, err := castore.DigestFromBytes(raw)
				if err != nil {
					return c, err
				}
				c.digest, hasDigest = d, true
			}
		case field == fieldChunkSize && wire == protowire.VarintType:
			var size uint64
			if size, n = protowire.ConsumeVarint(b); n >= 0 && size > maxChunk {
				return c, fmt.Errorf("%d bytes, of at most %d", size, maxChunk)
			}
			c.size = int64(size)
		default:
			n = protowire.ConsumeFieldValue(field, wire, b)
		}
		if n < 0 {
			return c, protowire.ParseError(n)
		}
		b = b[n:]
	}
	switch {
	case !hasDigest:
		return c, errors.New("no digest")
	case c.size == 0 && c.digest != castore.EmptyBlob:
		return c, errors.New("no size")
	}
	return c, nil
}
