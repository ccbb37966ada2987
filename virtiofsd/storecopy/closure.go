package storecopy

import (
	"context"
	"errors"
	"fmt"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/pathinfo"
)

// Closure returns the path infos of paths and of all that they refer to, each
// once, each after those that it refers to. A path that neither from nor to has
// is an error; one that only to has is left out, with what it refers to.
func Closure(ctx context.Context, from, to pathinfo.Service, paths []storepath.StorePath) ([]*pathinfo.PathInfo, error) {
	type visit struct {
		info *pathinfo.PathInfo
		next int // reference to visit
	}
	var closure []*pathinfo.PathInfo
	var stack []visit
	seen := map[storepath.Hash]bool{}
	enter := func(p storepath.StorePath, by string) error {
		if seen[p.Hash] {
			return nil
		}
		seen[p.Hash] = true
		info, err := get(ctx, from, p)
		if errors.Is(err, pathinfo.ErrNotFound) && by != "" {
			if _, there := get(ctx, to, p); there == nil {
				return nil
			}
		}
		if err != nil {
			return fmt.Errorf("%s%s: %w", p.Absolute(), by, err)
		}
		stack = append(stack, visit{info: info})
		return nil
	}
	for _, root := range paths {
		if err := enter(root, ""); err != nil {
			return nil, err
		}
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if top.next == len(top.info.References) {
				closure = append(closure, top.info)
				stack = stack[:len(stack)-1]
				continue
			}
			top.next++
			if err := enter(top.info.References[top.next-1], ", which "+top.info.StorePath.Absolute()+" refers to"); err != nil {
				return nil, err
			}
		}
	}
	return closure, nil
}

// get looks a path up by its whole name.
func get(ctx context.Context, s pathinfo.Service, p storepath.StorePath) (*pathinfo.PathInfo, error) {
	info, err := s.Get(ctx, p.Hash)
	if err == nil && info.StorePath != p {
		return nil, fmt.Errorf("%w, but %s is", pathinfo.ErrNotFound, info.StorePath)
	}
	return info, err
}
