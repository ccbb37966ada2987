package gc

import (
	"context"
	"errors"
	"fmt"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

// needed is what has to stay.
type needed struct {
	paths map[storepath.Hash]struct{}
	dirs  map[castore.Digest]struct{}
	blobs map[castore.Digest]struct{}
}

// mark finds what is needed.
func (c *collector) mark(ctx context.Context) error {
	c.needed = needed{map[storepath.Hash]struct{}{}, map[castore.Digest]struct{}{}, map[castore.Digest]struct{}{}}
	for _, root := range c.o.Roots {
		info, err := c.store.PathInfos.Get(ctx, root.Hash)
		if err == nil && info.StorePath != root {
			err = pathinfo.ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("root %s: %w", root.Absolute(), err)
		}
		if err := c.markPath(ctx, root.Hash); err != nil {
			return err
		}
	}
	if c.o.NamedRoots != nil {
		named, err := c.o.NamedRoots()
		if err != nil {
			return err
		}
		for _, root := range named {
			if err := c.markPath(ctx, root.Hash); err != nil {
				return err
			}
		}
	}
	for item, err := range c.infos.Items(ctx) {
		if err != nil {
			return err
		}
		if item.Used.Before(c.before) {
			continue
		}
		if err := c.markPath(ctx, item.Hash); err != nil {
			return err
		}
	}
	c.result.KeptPaths = len(c.needed.paths)
	return nil
}

// markPath marks a store path and all that it refers to.
func (c *collector) markPath(ctx context.Context, hash storepath.Hash) error {
	for todo := []storepath.Hash{hash}; len(todo) > 0; {
		hash := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, ok := c.needed.paths[hash]; ok {
			continue
		}
		info, err := c.store.PathInfos.Get(ctx, hash)
		if errors.Is(err, pathinfo.ErrNotFound) {
			continue // a reference to what is not there
		}
		if err != nil {
			return fmt.Errorf("%w: find the damage with 'virtiofsd verify'", err)
		}
		c.needed.paths[hash] = struct{}{}
		if err := c.markTree(ctx, info.Node); err != nil {
			return fmt.Errorf("%s: %w: find the damage with 'virtiofsd verify'", info.StorePath.Absolute(), err)
		}
		for _, r := range info.References {
			todo = append(todo, r.Hash)
		}
	}
	return nil
}

// markTree marks a tree.
func (c *collector) markTree(ctx context.Context, root castore.Node) error {
	for todo := []castore.Node{root}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		switch n.Kind {
		case castore.KindFile:
			c.needed.blobs[n.Digest] = struct{}{}
		case castore.KindDirectory:
			if _, ok := c.needed.dirs[n.Digest]; ok {
				continue
			}
			dir, err := c.store.Directories.Get(ctx, n.Digest)
			if err != nil {
				return err
			}
			c.needed.dirs[n.Digest] = struct{}{}
			for _, e := range dir.Entries() {
				todo = append(todo, e.Node)
			}
		}
	}
	return nil
}
