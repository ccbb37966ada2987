package storecopy

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

// Store is a source or a destination.
type Store struct {
	Blobs       castore.BlobService
	Directories castore.DirectoryService
	PathInfos   pathinfo.Service
}

// Path copies one path, whose references are in to, unless it is there. It
// returns what to now knows of it. The caller holds to (gc.Hold) from before
// [Closure] until the last path is copied. progress, unless nil, is called by several
// goroutines with the number of bytes of files that are done since its last
// call.
func Path(ctx context.Context, from, to Store, info *pathinfo.PathInfo, progress func(bytes int64)) (now *pathinfo.PathInfo, copied bool, err error) {
	if progress == nil {
		progress = func(int64) {}
	}
	before, err := get(ctx, to.PathInfos, info.StorePath)
	switch {
	case err == nil:
		progress(int64(info.NarSize))
		now, err = Update(ctx, to.PathInfos, before, info)
		return now, false, err
	case !errors.Is(err, pathinfo.ErrNotFound):
		return nil, false, err
	}
	if err := tree(ctx, from, to, info.Node, progress); err != nil {
		return nil, false, err
	}
	if err := checkNAR(ctx, from, to, info); err != nil {
		return nil, false, err
	}
	now, err = to.PathInfos.Put(ctx, info)
	return now, true, err
}

// Update adds what is known of a path to what the store s knows of it, and
// notes that it is in use. If s holds other contents under the path, as builds
// that are not reproducible give, its own stay.
func Update(ctx context.Context, s pathinfo.Service, before, more *pathinfo.PathInfo) (*pathinfo.PathInfo, error) {
	after := *before
	if before.NarSHA256 == more.NarSHA256 {
		after.References = more.References
		after.Signatures = slices.Clone(before.Signatures)
		for _, sig := range more.Signatures {
			if !slices.Contains(after.Signatures, sig) {
				after.Signatures = append(after.Signatures, sig)
			}
		}
		if more.Deriver != nil {
			after.Deriver = more.Deriver
		}
		if more.CA != nil {
			after.CA = more.CA
		}
	}
	if !reflect.DeepEqual(&after, before) {
		return s.Put(ctx, &after)
	}
	if s, ok := s.(pathinfo.Sweeper); ok {
		return before, s.Touch(ctx, before.StorePath.Hash)
	}
	return before, nil
}
