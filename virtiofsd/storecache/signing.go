package storecache

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/pathinfo"
)

// signing signs what is put.
type signing struct {
	inner pathinfo.Service
	key   pathinfo.SecretKey
}

// NewSigning makes a service that signs each path info with key before it puts
// it into inner. Other signatures stay; one of the same key is not added twice.
// A path info whose NAR size is not known stays without one, as Nix would not
// accept it. Close does not close inner. The service is a [pathinfo.Sweeper] if
// inner is one.
func NewSigning(inner pathinfo.Service, key pathinfo.SecretKey) pathinfo.Service {
	s := &signing{inner, key}
	if sweeper, ok := inner.(pathinfo.Sweeper); ok {
		return sweepableSigning{s, sweeper}
	}
	return s
}

// Get implements [pathinfo.Service].
func (s *signing) Get(ctx context.Context, hash storepath.Hash) (*pathinfo.PathInfo, error) {
	return s.inner.Get(ctx, hash)
}

// Put implements [pathinfo.Service].
func (s *signing) Put(ctx context.Context, p *pathinfo.PathInfo) (*pathinfo.PathInfo, error) {
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("put path info: %w", err)
	}
	if p.NarSize == 0 {
		return s.inner.Put(ctx, p)
	}
	sig := s.key.Sign(p.Fingerprint())
	if slices.Contains(p.Signatures, sig) {
		return s.inner.Put(ctx, p)
	}
	signed := *p
	signed.Signatures = append(slices.Clone(p.Signatures), sig)
	return s.inner.Put(ctx, &signed)
}

// List implements [pathinfo.Service].
func (s *signing) List(ctx context.Context) iter.Seq2[*pathinfo.PathInfo, error] {
	return s.inner.List(ctx)
}

// Close implements [pathinfo.Service].
func (s *signing) Close() error { return nil }
