package verify

import (
	"context"
	"fmt"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
)

// checkedDirectories notes which directories cannot be had.
type checkedDirectories struct {
	castore.DirectoryService
	c *checker
}

func (s checkedDirectories) Get(ctx context.Context, d castore.Digest) (*castore.Directory, error) {
	dir, err := s.DirectoryService.Get(ctx, d)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil && dir.Digest() != d { // of a service that does not check
		err = fmt.Errorf("what is stored has the digest %s", dir.Digest())
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.dirs[d] == nil {
		s.c.dirs[d] = err
	}
	return dir, err
}

// checkedBlobs notes which blobs cannot be had, and hashes those that nobody
// has hashed while they are read from the beginning to the end.
type checkedBlobs struct {
	castore.BlobService
	c *checker
}

func (s checkedBlobs) Open(ctx context.Context, d castore.Digest) (castore.Blob, error) {
	claimed := s.c.claim(d)
	b, err := s.BlobService.Open(ctx, d)
	if ctx.Err() != nil {
		if err == nil {
			_ = b.Close()
		}
		return nil, ctx.Err()
	}
	if err != nil {
		s.c.noteBlob(d, err)
		return nil, err
	}
	checked := &checkedBlob{Blob: b, ctx: ctx, c: s.c, digest: d}
	if claimed {
		checked.hash = blake3.New()
	}
	return checked, nil
}

type checkedBlob struct {
	castore.Blob
	ctx    context.Context
	c      *checker
	digest castore.Digest
	hash   *blake3.Hasher // nil if somebody else hashes it
	read   int64
}

func (b *checkedBlob) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.Blob.ReadAt(p, off)
	if b.hash != nil && off == b.read {
		_, _ = b.hash.Write(p[:n])
		b.read += int64(n)
	}
	return n, err
}

// Close compares what was read. A blob of which not all was read, as something
// else stopped the NAR, is read by itself.
func (b *checkedBlob) Close() error {
	if b.hash != nil && b.ctx.Err() == nil {
		var err error
		if b.read == b.Size() {
			err = b.c.compare(b.digest, b.hash, b.read)
		} else {
			err = b.c.hashBlob(b.ctx, b.digest)
		}
		if err != nil && b.ctx.Err() == nil {
			b.c.noteBlob(b.digest, err)
		}
	}
	return b.Blob.Close()
}
