package objectstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/fastcdc"
	"storeboot/virtiofsd/objectstore/bucket"
)

const (
	// requests is how many chunks are uploaded at once, and how many are
	// downloaded at once.
	requests = 16
	// cacheSize is how many bytes of decoded chunks are held.
	cacheSize = 64 << 20
	// readAhead is how many chunks are loaded beyond the one that is read.
	readAhead = 4
)

// averageParam is the parameter of the address for the average chunk size of
// what is written, in bytes.
const averageParam = "avg_chunk_size"

var errServiceClosed = errors.New("the blob service is closed")

// Blobs is the blob service. Create one with [OpenBlobs].
type Blobs struct {
	bucket  bucket.Bucket
	codec   *codec
	chunker *fastcdc.Chunker
	cache   *chunkCache
	proofs  *proofs
	buffers sync.Pool // of *[]byte for a splitter

	spoolDir  string // for temporary files
	unspooled int64  // [maxUnspooled] but in tests

	uploads   chan struct{}
	downloads chan struct{}

	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	closed sync.Once
}

// OpenBlobs opens the blobs at an address (package bucket). The parameter
// avg_chunk_size, by default 262144, sets the average length of chunks that are
// written. No request is made.
func OpenBlobs(ctx context.Context, url string) (castore.BlobService, error) {
	address, err := bucket.ParseAddress(url, averageParam)
	if err != nil {
		return nil, err
	}
	average := fastcdc.DefaultAverage
	if s, ok := address.Extra[averageParam]; ok {
		if average, err = strconv.Atoi(s); err != nil {
			return nil, fmt.Errorf("open blobs %s: parameter %s: %q is not a number", address, averageParam, s)
		}
	}
	sizes, err := fastcdc.NewSizes(average)
	if err != nil {
		return nil, fmt.Errorf("open blobs %s: parameter %s: %w", address, averageParam, err)
	}
	b, err := bucket.Open(ctx, address)
	if err != nil {
		return nil, err
	}
	return newBlobs(b, sizes)
}

func newBlobs(b bucket.Bucket, sizes fastcdc.Sizes) (*Blobs, error) {
	codec, err := newCodec()
	if err != nil {
		return nil, err
	}
	s := &Blobs{
		bucket:    b,
		codec:     codec,
		chunker:   fastcdc.NewChunker(sizes),
		buffers:   sync.Pool{New: func() any { b := make([]byte, 0, 2*sizes.Max); return &b }},
		uploads:   make(chan struct{}, requests),
		downloads: make(chan struct{}, requests),
		proofs:    newProofs(),
		spoolDir:  os.TempDir(),
		unspooled: maxUnspooled,
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.cache = newChunkCache(cacheSize, s.loadChunk)
	return s, nil
}

// Has implements [castore.BlobService].
func (s *Blobs) Has(ctx context.Context, d castore.Digest) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if d == castore.EmptyBlob {
		return true, nil
	}
	for _, space := range []space{chunkSpace, blobSpace} {
		if has, err := s.bucket.Exists(ctx, space.key(d)); has || err != nil {
			return has, err
		}
	}
	return false, nil
}

// Open implements [castore.BlobService]. The blob must be closed before the
// service is.
func (s *Blobs) Open(ctx context.Context, d castore.Digest) (castore.Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	chunks, index, err := s.chunks(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	return newBlob(s, d, chunks, index), nil
}

// chunks finds out which chunks a blob has, and the digest of the index that
// says so.
func (s *Blobs) chunks(ctx context.Context, d castore.Digest) (chunks []chunkMeta, sum castore.Digest, err error) {
	if d == castore.EmptyBlob {
		return nil, sum, nil
	}
	// Most blobs are one chunk, which is wanted next anyway.
	data, err := s.cache.get(ctx, d)
	if err == nil {
		return []chunkMeta{{d, int64(len(data))}}, sum, nil
	}
	if !errors.Is(err, bucket.ErrNotFound) {
		return nil, sum, err
	}
	index, err := s.bucket.Get(ctx, blobSpace.key(d), maxIndex)
	if errors.Is(err, bucket.ErrNotFound) {
		return nil, sum, castore.ErrNotFound
	}
	if err != nil {
		return nil, sum, err
	}
	if chunks, err = parseIndex(index); err != nil {
		return nil, sum, fmt.Errorf("%s in %s: %w: the store is damaged", blobSpace.key(d), s.bucket, err)
	}
	if len(chunks) == 0 {
		return nil, sum, fmt.Errorf("it has one chunk, and %s is missing in %s: the store is damaged", chunkSpace.key(d), s.bucket)
	}
	return chunks, castore.Digest(blake3.Sum256(index)), nil
}

// loadChunk gets a chunk and checks it.
func (s *Blobs) loadChunk(d castore.Digest) ([]byte, error) {
	select {
	case s.downloads <- struct{}{}:
		defer func() { <-s.downloads }()
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	}
	stored, err := s.bucket.Get(s.ctx, chunkSpace.key(d), maxStoredChunk)
	if err != nil {
		return nil, err
	}
	data, err := s.codec.decompress(stored)
	if err != nil {
		return nil, fmt.Errorf("chunk %s (%s in %s): %w: the store is damaged", d, chunkSpace.key(d), s.bucket, err)
	}
	if got := castore.Digest(blake3.Sum256(data)); got != d {
		return nil, fmt.Errorf("chunk %s (%s in %s): its contents have the digest %s: the store is damaged", d, chunkSpace.key(d), s.bucket, got)
	}
	return data, nil
}

// storeChunk stores a chunk unless it is there.
func (s *Blobs) storeChunk(ctx context.Context, d castore.Digest, data []byte) error {
	has, err := s.bucket.Exists(ctx, chunkSpace.key(d))
	if has || err != nil {
		return err
	}
	return s.bucket.Put(ctx, chunkSpace.key(d), s.codec.compress(data))
}

// Flush implements [castore.BlobService].
func (s *Blobs) Flush(ctx context.Context) error { return s.bucket.Flush(ctx) }

// Close implements [castore.BlobService]. A second one does nothing.
func (s *Blobs) Close() (err error) {
	s.closed.Do(func() {
		s.cancel(errServiceClosed)
		s.cache.close()
		s.codec.close()
		err = s.bucket.Close()
	})
	return err
}
