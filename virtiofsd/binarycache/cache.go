package binarycache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/narcodec"
	"storeboot/virtiofsd/narinfo"
	"storeboot/virtiofsd/pathinfo"
)

// Cache is a binary cache. All methods may be called by several goroutines at
// once. Make one with [Open].
type Cache struct {
	address Address
	files   files

	mu   sync.Mutex
	info *Info

	requests, bytes atomic.Int64
}

// Open opens a cache. No request is made.
func Open(ctx context.Context, a Address) (*Cache, error) {
	var f files
	var err error
	switch a.Scheme {
	case "file":
		f = directory{a.Path}
	case "s3":
		f, err = openBucket(ctx, a)
	default:
		f, err = openWeb(a)
	}
	if err != nil {
		return nil, fmt.Errorf("open binary cache %s: %w", a, err)
	}
	return &Cache{address: a, files: f}, nil
}

// Requests is how many requests were made so far, with repeats, and how many
// bytes came of files.
func (c *Cache) Requests() (requests, bytes int64) { return c.requests.Load(), c.bytes.Load() }

// open makes one request for a file.
func (c *Cache) open(ctx context.Context, key string, offset int64, tag string) (*opened, error) {
	c.requests.Add(1)
	return c.files.open(ctx, key, offset, tag)
}

// CheckTrust is an error if the address has neither keys nor allow-unsigned: then
// nothing that the cache says would be taken.
func (a Address) CheckTrust() error {
	if len(a.Keys) == 0 && !a.AllowUnsigned {
		return fmt.Errorf("binary cache %s has no key that its paths are checked with: add ?trusted-public-keys=NAME:BASE64 or --trusted-public-keys, or ?allow-unsigned=1 to take what it says", a)
	}
	return nil
}

// Address is what the cache was opened with.
func (c *Cache) Address() Address { return c.address }

// String is the address without parameters.
func (c *Cache) String() string { return c.address.String() }

// Close frees what the cache holds.
func (c *Cache) Close() error { return c.files.close() }

// get reads a small file.
func (c *Cache) get(ctx context.Context, key string, limit int) ([]byte, error) {
	var data []byte
	err := repeat(ctx, c.address.Retries, func() error {
		o, err := c.open(ctx, key, 0, "")
		if err != nil {
			return err
		}
		defer o.body.Close()
		body, err := decode(o)
		if err != nil {
			return err
		}
		defer body.Close()
		data, err = io.ReadAll(io.LimitReader(body, int64(limit)+1))
		switch {
		case err != nil:
			return err
		case len(data) > limit:
			return permanentError{fmt.Errorf("longer than %d bytes", limit)}
		case o.encoding == "" && o.size >= 0 && int64(len(data)) != o.size:
			return io.ErrUnexpectedEOF
		}
		c.bytes.Add(int64(len(data)))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("binary cache %s: read %s: %w", c, key, err)
	}
	return data, nil
}

// decode undoes what the file was compressed with for its transport.
func decode(o *opened) (io.ReadCloser, error) {
	codec, err := narcodec.ByName(o.encoding)
	if err != nil {
		return nil, permanentError{fmt.Errorf("Content-Encoding: %w", err)}
	}
	return codec.NewReader(o.body)
}

// NarInfo returns what the cache knows of a path, checked as the package says,
// or ErrNotFound.
func (c *Cache) NarInfo(ctx context.Context, hash storepath.Hash) (*narinfo.NarInfo, error) {
	key := hash.String() + ".narinfo"
	text, err := c.get(ctx, key, narinfo.MaxSize)
	if err != nil {
		return nil, err
	}
	n, err := narinfo.Parse(text)
	if err == nil && n.StorePath.Hash != hash {
		err = fmt.Errorf("it is that of %s", n.StorePath)
	}
	if err == nil {
		err = c.checkTrust(n)
	}
	if err != nil {
		return nil, fmt.Errorf("binary cache %s: %s: %w", c, key, err)
	}
	return n, nil
}

// checkTrust checks the signatures and the content address.
func (c *Cache) checkTrust(n *narinfo.NarInfo) error {
	p := n.PathInfo(castore.Node{})
	if err := p.CheckCA(); err != nil {
		return err
	}
	if c.address.AllowUnsigned || provenByNAR(p) {
		return nil
	}
	if err := c.address.CheckTrust(); err != nil {
		return err
	}
	return p.CheckSignature(c.address.Keys)
}

// provenByNAR says whether the store path follows from the hash of the NAR,
// which [pathinfo.PathInfo.CheckCA] has compared then: nothing is to be signed.
func provenByNAR(p *pathinfo.PathInfo) bool {
	if p.CA == nil || p.CA.Type != pathinfo.CANARSHA256 || !bytes.Equal(p.CA.Digest, p.NarSHA256[:]) {
		return false
	}
	for _, r := range p.References {
		if r == p.StorePath {
			return false
		}
	}
	return true
}

// Has says whether the cache knows the path.
func (c *Cache) Has(ctx context.Context, hash storepath.Hash) (bool, error) {
	return c.exists(ctx, hash.String()+".narinfo")
}

func (c *Cache) exists(ctx context.Context, key string) (there bool, err error) {
	err = repeat(ctx, c.address.Retries, func() error {
		c.requests.Add(1)
		there, err = c.files.exists(ctx, key)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("binary cache %s: look for %s: %w", c, key, err)
	}
	return there, nil
}

// contentTypeOf is the MIME type of a NAR, as Nix has it.
func contentTypeOf(compression string) string {
	switch compression {
	case "none":
		return "application/x-nix-nar"
	case "gzip":
		return "application/x-nix-nar-compressed-gzip"
	}
	return "application/octet-stream"
}
