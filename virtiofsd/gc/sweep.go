package gc

import (
	"context"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

// sweepPaths removes path infos that are not needed.
func (c *collector) sweepPaths(ctx context.Context) error {
	var items []pathinfo.Item
	flush := func() error {
		// Their names are gone with them.
		names := make(map[pathinfo.Item]Removed, len(items))
		for _, item := range items {
			r := Removed{Hash: item.Hash}
			if info, err := c.store.PathInfos.Get(ctx, item.Hash); err == nil {
				r.Path = &info.StorePath
			}
			names[item] = r
		}
		removed := items
		if !c.o.DryRun {
			var err error
			if removed, err = c.infos.Remove(ctx, items, c.before); err != nil {
				return err
			}
		}
		for _, item := range removed {
			c.result.Paths = append(c.result.Paths, names[item])
		}
		items = items[:0]
		return nil
	}
	for item, err := range c.infos.Items(ctx) {
		if err != nil {
			return err
		}
		if _, ok := c.needed.paths[item.Hash]; ok || !item.Used.Before(c.before) {
			continue
		}
		if items = append(items, item); len(items) == batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// sweep removes what is not needed from one service. removed and kept are
// numbers of items, bytes is the size of the removed ones.
func (c *collector) sweep(ctx context.Context, s castore.Sweeper, needed map[castore.Digest]struct{}) (removed, kept int, bytes int64, err error) {
	var items []castore.Item
	flush := func() error {
		gone := items
		if !c.o.DryRun {
			gone, err = s.Remove(ctx, items, c.before)
		}
		for _, item := range gone {
			removed++
			bytes += item.Size
		}
		kept += len(items) - len(gone)
		items = items[:0]
		return err
	}
	for item, err := range s.Items(ctx) {
		if err != nil {
			return removed, kept, bytes, err
		}
		if _, ok := needed[item.Digest]; ok || !item.Used.Before(c.before) {
			kept++
			continue
		}
		if items = append(items, item); len(items) == batch {
			if err := flush(); err != nil {
				return removed, kept, bytes, err
			}
		}
	}
	return removed, kept, bytes, flush()
}
