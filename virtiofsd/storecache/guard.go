package storecache

import (
	"context"
	"errors"
	"fmt"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

var _ castore.Guard = (*blobs)(nil)

// Hold implements [castore.Guard]: it keeps collections out of both stores, as
// what is put may refer to what either holds. A store that cannot keep them out
// is passed over.
func (s *blobs) Hold(ctx context.Context) (release func(), err error) {
	return s.guard(ctx, func(g castore.Guard) (func(), error) {
		if g == nil {
			return func() {}, nil
		}
		return g.Hold(ctx)
	})
}

// Exclude implements [castore.Guard]. It is an error if one of the stores cannot
// keep others out.
func (s *blobs) Exclude(ctx context.Context) (release func(), err error) {
	return s.guard(ctx, func(g castore.Guard) (func(), error) {
		if g == nil {
			return nil, fmt.Errorf("keep others out of the store: %w", errors.ErrUnsupported)
		}
		return g.Exclude(ctx)
	})
}

// guard takes both stores, near first, or none.
func (s *blobs) guard(ctx context.Context, take func(castore.Guard) (func(), error)) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	near, _ := s.near.(castore.Guard)
	far, _ := s.far.(castore.Guard)
	releaseNear, err := take(near)
	if err != nil {
		return nil, err
	}
	releaseFar, err := take(far)
	if err != nil {
		releaseNear()
		return nil, err
	}
	return func() { releaseFar(); releaseNear() }, nil
}

// sweepableSigning is a signing service whose inner one can be swept.
type sweepableSigning struct {
	*signing
	pathinfo.Sweeper
}
