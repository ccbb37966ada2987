package substitute

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/gc"
	"storeboot/virtiofsd/ingest"
	"storeboot/virtiofsd/narinfo"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storecopy"
)

// take brings what a cache says it has into the store.
func (s *Service) take(ctx context.Context, c candidate, before func(context.Context, *pathinfo.PathInfo) error) (*pathinfo.PathInfo, error) {
	s.counts.active.Add(1)
	defer s.counts.active.Add(-1)
	// Nothing refers to what is stored until the end.
	release, err := gc.Hold(ctx, s.store.Blobs)
	if err != nil {
		return nil, err
	}
	defer release()
	p, lazy, err := s.castoreTree(ctx, c)
	if p == nil || err != nil {
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			s.o.Log.Warn("tree cannot be copied: its NAR is downloaded", "path", c.info.StorePath, "error", err)
		}
		if p, err = s.download(ctx, c); err != nil {
			return nil, err
		}
	}
	if before != nil {
		if err := before(ctx, p); err != nil {
			return nil, err
		}
	}
	to := s.near
	if lazy {
		to = s.lazy
	}
	p, err = to.Put(ctx, p)
	if err != nil {
		return nil, err
	}
	s.o.Log.Debug("fetched", "path", p.StorePath, "cache", c.source.Cache.String(), "narSize", p.NarSize)
	return p, nil
}

// download takes in a NAR and checks it.
func (s *Service) download(ctx context.Context, c candidate) (*pathinfo.PathInfo, error) {
	n := c.info
	known := int64(n.FileSize)
	if known == 0 {
		known = int64(n.NarSize)
	}
	s.counts.bytesKnown.Add(known)
	d, err := c.source.Cache.OpenNAR(ctx, n, func(bytes int64) { s.counts.bytesDone.Add(bytes) })
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var r io.Reader = d
	sum := newCAHash(n.CA)
	if sum != nil {
		r = io.TeeReader(d, sum)
	}
	got, err := ingest.NAR(ctx, s.store.Blobs, s.store.Directories, r, nil)
	if d.Err() != nil {
		err = d.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.StorePath, err)
	}
	p := n.PathInfo(got.Node)
	p.NarSize = got.NarSize
	switch {
	case n.NarSize != 0 && got.NarSize != n.NarSize:
		err = fmt.Errorf("the NAR has %d bytes, its narinfo says %d", got.NarSize, n.NarSize)
	case got.NarSHA256 != n.NarHash:
		err = errors.New("the NAR does not have the hash that its narinfo says: the cache is damaged or lies")
	case sum != nil && !bytes.Equal(sum.Sum(nil), n.CA.Digest):
		err = fmt.Errorf("its contents do not have the content address %s", n.CA)
	default:
		err = s.checkFile(ctx, p)
	}
	if err != nil {
		return nil, fmt.Errorf("%s from %s: %w", n.StorePath, c.source.Cache, err)
	}
	return p, nil
}

// newCAHash is the hash of the NAR that the content address is, where it is not
// the one that is known anyway.
func newCAHash(ca *pathinfo.CA) hash.Hash {
	if ca == nil {
		return nil
	}
	if h, ofFile := ca.Type.NewHash(); !ofFile && ca.Type != pathinfo.CANARSHA256 {
		return h
	}
	return nil
}

// checkFile compares a file with the content address, where that is the file's
// hash.
func (s *Service) checkFile(ctx context.Context, p *pathinfo.PathInfo) error {
	if p.CA == nil {
		return nil
	}
	h, ofFile := p.CA.Type.NewHash()
	if !ofFile {
		return nil
	}
	if p.Node.Kind != castore.KindFile || p.Node.Executable {
		return fmt.Errorf("content address %s is that of a plain file, but it is a %s", p.CA, p.Node.Kind)
	}
	b, err := s.store.Blobs.Open(ctx, p.Node.Digest)
	if err != nil {
		return err
	}
	defer b.Close()
	if _, err := io.Copy(h, io.NewSectionReader(b, 0, b.Size())); err != nil {
		return err
	}
	if !bytes.Equal(h.Sum(nil), p.CA.Digest) {
		return fmt.Errorf("its contents do not have the content address %s", p.CA)
	}
	return nil
}

// castoreTree copies the tree that the URL of the NAR names, if it names one and
// somebody has it; else it returns nil. A lazy one is not copied.
func (s *Service) castoreTree(ctx context.Context, c candidate) (p *pathinfo.PathInfo, lazy bool, err error) {
	if c.source.Blobs == nil || c.source.Directories == nil {
		return nil, false, nil
	}
	node, size, ok, err := narinfo.ParseCastoreURL(c.info.URL)
	if !ok || err != nil {
		return nil, false, err
	}
	if size != c.info.NarSize || newCAHash(c.info.CA) != nil || c.info.Compression != "none" {
		return nil, false, nil // the NAR itself is needed, or it is not clear which one it is
	}
	p = c.info.PathInfo(node)
	if c.source.Cache.Address().CastoreLazy {
		return p, true, nil
	}
	memory := pathinfo.NewMemory()
	defer memory.Close()
	from := storecopy.Store{Blobs: c.source.Blobs, Directories: c.source.Directories}
	to := storecopy.Store{Blobs: s.store.Blobs, Directories: s.store.Directories, PathInfos: memory}
	_, _, err = storecopy.Path(ctx, from, to, p, func(n int64) {
		s.counts.bytesKnown.Add(n)
		s.counts.bytesDone.Add(n)
	})
	if err == nil {
		err = s.checkFile(ctx, p)
	}
	if err != nil {
		return nil, false, err
	}
	return p, false, nil
}
