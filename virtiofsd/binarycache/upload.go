package binarycache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"

	"github.com/nix-community/go-nix/pkg/nixbase32"

	"storeboot/virtiofsd/narcodec"
	"storeboot/virtiofsd/narinfo"
	"storeboot/virtiofsd/pathinfo"
)

// PutNAR stores a NAR of size bytes under the URL that its narinfo is to name,
// unless it is there. The name has the hash of the contents in it. It says
// whether it was stored.
func (c *Cache) PutNAR(ctx context.Context, url, compression string, size int64, body io.ReadSeeker) (stored bool, err error) {
	there, err := c.exists(ctx, url)
	if there || err != nil {
		return false, err
	}
	err = repeat(ctx, c.address.Retries, func() error {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return permanentError{err}
		}
		return c.files.write(ctx, url, contentTypeOf(compression), size, io.LimitReader(body, size))
	})
	if err != nil {
		return false, fmt.Errorf("binary cache %s: write %s: %w", c, url, err)
	}
	return true, nil
}

// PutNarInfo stores a narinfo, whose NAR and references are there.
func (c *Cache) PutNarInfo(ctx context.Context, n *narinfo.NarInfo) error {
	return c.put(ctx, n.StorePath.Hash.String()+".narinfo", narinfo.ContentType, n.Marshal())
}

// put stores a small file.
func (c *Cache) put(ctx context.Context, key, contentType string, data []byte) error {
	err := repeat(ctx, c.address.Retries, func() error {
		return c.files.write(ctx, key, contentType, int64(len(data)), bytes.NewReader(data))
	})
	if err != nil {
		return fmt.Errorf("binary cache %s: write %s: %w", c, key, err)
	}
	return nil
}

// Upload says how a path is stored in a cache.
type Upload struct {
	// Compression of the NAR: none, zstd, xz or gzip.
	Compression string
	// Keys sign the path, beside the signatures that it has.
	Keys []pathinfo.SecretKey
	// WriteNAR writes the NAR of the path.
	WriteNAR func(io.Writer) error
	// References, unless nil, is called when the NAR is stored and waits until
	// all that the path refers to is in the cache.
	References func(context.Context) error
	// Progress, unless nil, is called with the number of bytes of the NAR that
	// were read since its last call.
	Progress func(bytes int64)
}

// PutPath stores a path: its NAR, which is compared with the path info on the
// way, then its narinfo. It returns the narinfo.
func (c *Cache) PutPath(ctx context.Context, p *pathinfo.PathInfo, u Upload) (*narinfo.NarInfo, error) {
	// The name of the file is the hash of its contents, so it comes first.
	f, err := os.CreateTemp("", "storeboot-push-*")
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", p.StorePath, err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil { // nobody else needs it, and it cannot stay behind
		return nil, fmt.Errorf("pack %s: %w", p.StorePath, err)
	}
	n := narinfo.FromPathInfo(p, "")
	if err := pack(f, p, n, u); err != nil {
		return nil, fmt.Errorf("pack %s: %w", p.StorePath, err)
	}
	n.Signatures = slices.Clone(p.Signatures)
	for _, k := range u.Keys {
		sig := k.Sign(p.Fingerprint())
		if !slices.Contains(n.Signatures, sig) {
			n.Signatures = append(n.Signatures, sig)
		}
	}
	if _, err := c.PutNAR(ctx, n.URL, n.Compression, int64(n.FileSize), f); err != nil {
		return nil, err
	}
	if u.References != nil {
		if err := u.References(ctx); err != nil {
			return nil, err
		}
	}
	return n, c.PutNarInfo(ctx, n)
}

// pack writes the compressed NAR to f and what is to be known of it to n.
func pack(f io.Writer, p *pathinfo.PathInfo, n *narinfo.NarInfo, u Upload) error {
	file, nar := &counter{Hash: sha256.New()}, &counter{Hash: sha256.New(), progress: u.Progress}
	z, err := narcodec.NewWriter(u.Compression, io.MultiWriter(f, file))
	if err != nil {
		return err
	}
	err = u.WriteNAR(io.MultiWriter(z, nar))
	if err = errors.Join(err, z.Close()); err != nil {
		return err
	}
	if [sha256.Size]byte(nar.Sum(nil)) != p.NarSHA256 || nar.size != p.NarSize {
		return errors.New("its contents do not have the NAR hash and size that the store says: the store is damaged")
	}
	sum := [sha256.Size]byte(file.Sum(nil))
	n.Compression, n.FileHash, n.FileSize = u.Compression, &sum, file.size
	n.URL = "nar/" + nixbase32.EncodeToString(sum[:]) + ".nar" + narcodec.Suffix(u.Compression)
	return nil
}

// counter is a hash that knows how much it took.
type counter struct {
	hash.Hash
	size     uint64
	progress func(int64)
}

func (c *counter) Write(p []byte) (int, error) {
	c.size += uint64(len(p))
	if c.progress != nil {
		c.progress(int64(len(p)))
	}
	return c.Hash.Write(p)
}
