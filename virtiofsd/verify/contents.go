package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/nix-community/go-nix/pkg/nixbase32"
	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castorenar"
	"storeboot/virtiofsd/pathinfo"
)

// errLonger ends a NAR that is longer than its path info says.
var errLonger = errors.New("it is longer")

// narHash hashes a NAR of a length that is known.
type narHash struct {
	hash.Hash
	left uint64
	tell func(int64)
}

func (h *narHash) Write(p []byte) (int, error) {
	if uint64(len(p)) > h.left {
		return 0, errLonger
	}
	h.left -= uint64(len(p))
	h.tell(int64(len(p)))
	return h.Hash.Write(p)
}

// path checks one store path.
func (c *checker) path(ctx context.Context, info *pathinfo.PathInfo) error {
	h := &narHash{sha256.New(), info.NarSize, c.progress}
	err := castorenar.Write(ctx, h, info.Node, checkedBlobs{c.store.Blobs, c}, checkedDirectories{c.store.Directories, c})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil && h.left == 0 && [sha256.Size]byte(h.Sum(nil)) == info.NarSHA256:
		return nil
	case err == nil && h.left > 0:
		err = fmt.Errorf("its contents as a NAR have %d bytes, it says %d", info.NarSize-h.left, info.NarSize)
	case err == nil:
		err = fmt.Errorf("its contents have the NAR hash sha256:%s, it says sha256:%s", nixbase32.EncodeToString(h.Sum(nil)), nixbase32.EncodeToString(info.NarSHA256[:]))
	case errors.Is(err, errLonger):
		err = fmt.Errorf("its contents as a NAR have more than the %d bytes that it says", info.NarSize)
	}
	c.mu.Lock()
	c.unlike[info.StorePath] = err
	c.mu.Unlock()
	return c.tree(ctx, info.Node) // what the NAR did not get to
}

// tree checks every directory and blob of a tree that is not checked yet.
func (c *checker) tree(ctx context.Context, root castore.Node) error {
	seen := map[castore.Digest]bool{}
	for todo := []castore.Node{root}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		switch n.Kind {
		case castore.KindFile:
			if err := c.blob(ctx, n.Digest); err != nil {
				return err
			}
		case castore.KindDirectory:
			if seen[n.Digest] {
				continue
			}
			seen[n.Digest] = true
			dir, err := checkedDirectories{c.store.Directories, c}.Get(ctx, n.Digest)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				continue // noted
			}
			for _, e := range dir.Entries() {
				todo = append(todo, e.Node)
			}
		}
	}
	return nil
}

// directory checks a directory unless that was done.
func (c *checker) directory(ctx context.Context, d castore.Digest) error {
	c.mu.Lock()
	_, known := c.dirs[d]
	c.mu.Unlock()
	if !known {
		_, _ = checkedDirectories{c.store.Directories, c}.Get(ctx, d) // notes what is wrong
	}
	return ctx.Err()
}

// blob hashes a blob unless that was done.
func (c *checker) blob(ctx context.Context, d castore.Digest) error {
	if !c.claim(d) {
		return nil
	}
	err := c.hashBlob(ctx, d)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		c.noteBlob(d, err)
	}
	return nil
}

func (c *checker) hashBlob(ctx context.Context, d castore.Digest) error {
	b, err := c.store.Blobs.Open(ctx, d)
	if err != nil {
		return err
	}
	defer b.Close()
	h := blake3.New()
	buf := make([]byte, 256<<10)
	for off := int64(0); off < b.Size(); {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, err := b.ReadAt(buf[:min(int64(len(buf)), b.Size()-off)], off)
		_, _ = h.Write(buf[:n])
		off += int64(n)
		if n == 0 || err != nil && (!errors.Is(err, io.EOF) || off < b.Size()) {
			return fmt.Errorf("it cannot be read at %d of %d bytes: %w", off, b.Size(), err)
		}
	}
	return c.compare(d, h, b.Size())
}

// compare compares a blob that was read with its digest.
func (c *checker) compare(d castore.Digest, h *blake3.Hasher, size int64) error {
	var got castore.Digest
	h.Sum(got[:0])
	if got != d {
		return fmt.Errorf("its contents (%d bytes) have the digest %s", size, got)
	}
	c.mu.Lock()
	c.report.BlobBytes += size
	c.mu.Unlock()
	return nil
}

// claim says whether the caller is to hash the blob d.
func (c *checker) claim(d castore.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.blobs[d]; ok {
		return false
	}
	c.blobs[d] = nil
	return true
}

func (c *checker) noteBlob(d castore.Digest, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blobs[d] == nil {
		c.blobs[d] = err
	}
}
