package verify

import (
	"bytes"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

// collect makes the report of what was noted.
func (c *checker) collect(ctx context.Context) error {
	c.report.Directories, c.report.Blobs = len(c.dirs), len(c.blobs)
	damage := map[castore.Node]*Damage{}
	for kind, noted := range map[Kind]map[castore.Digest]error{Blob: c.blobs, Directory: c.dirs} {
		for d, err := range noted {
			if err != nil {
				c.report.Damaged = append(c.report.Damaged, Damage{Kind: kind, Digest: d, Err: err})
			}
		}
	}
	for i := range c.report.Damaged {
		d := &c.report.Damaged[i]
		damage[key(d.Kind == Directory, d.Digest)] = d
	}
	damaged := map[storepath.StorePath]bool{}
	if len(damage) > 0 {
		for _, info := range c.infos {
			some, err := c.users(ctx, info, damage)
			if err != nil {
				return err
			}
			damaged[info.StorePath] = some
		}
	}
	// A NAR hash that is another one says something new only if all that the
	// path consists of is as it was.
	for p, err := range c.unlike {
		if !damaged[p] {
			c.report.Damaged = append(c.report.Damaged, Damage{Kind: PathInfo, Hash: p.Hash, Err: err, Paths: []storepath.StorePath{p}})
		}
	}
	for h, err := range c.badInfos {
		c.report.Damaged = append(c.report.Damaged, Damage{Kind: PathInfo, Hash: h, Err: err})
	}
	slices.SortFunc(c.report.Damaged, func(a, b Damage) int {
		if a.Kind != b.Kind {
			return strings.Compare(string(a.Kind), string(b.Kind))
		}
		return bytes.Compare(append(a.Digest[:], a.Hash[:]...), append(b.Digest[:], b.Hash[:]...))
	})
	return nil
}

// key tells blobs and directories apart: one digest may be that of both.
func key(directory bool, d castore.Digest) castore.Node {
	if directory {
		return castore.Node{Kind: castore.KindDirectory, Digest: d}
	}
	return castore.Node{Kind: castore.KindFile, Digest: d}
}

// users adds the path to all of damage that its tree needs, and says whether
// that is any.
func (c *checker) users(ctx context.Context, info *pathinfo.PathInfo, damage map[castore.Node]*Damage) (bool, error) {
	some := false
	seen := map[castore.Node]bool{}
	for todo := []castore.Node{info.Node}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		k := key(n.Kind == castore.KindDirectory, n.Digest)
		if n.Kind == castore.KindSymlink || seen[k] {
			continue
		}
		seen[k] = true
		if d := damage[k]; d != nil {
			d.Paths = append(d.Paths, info.StorePath)
			some = true
			continue
		}
		if n.Kind != castore.KindDirectory {
			continue
		}
		dir, err := c.store.Directories.Get(ctx, n.Digest)
		if err != nil {
			return some, err // it was good a moment ago
		}
		for _, e := range dir.Entries() {
			todo = append(todo, e.Node)
		}
	}
	return some, nil
}

// remove removes what the report says is damaged. Path infos go first: no
// store path is ever there without what it needs.
func (c *checker) remove(ctx context.Context) error {
	infos, ok1 := c.store.PathInfos.(pathinfo.Sweeper)
	dirs, ok2 := c.store.Directories.(castore.Sweeper)
	blobs, ok3 := c.store.Blobs.(castore.Sweeper)
	if !ok1 || !ok2 || !ok3 {
		return errNoRemove
	}
	var badInfos []pathinfo.Item
	var badDirs, badBlobs []castore.Item
	seen := map[storepath.Hash]bool{}
	add := func(h storepath.Hash) {
		if !seen[h] {
			seen[h] = true
			badInfos = append(badInfos, pathinfo.Item{Hash: h})
		}
	}
	for _, d := range c.report.Damaged {
		for _, p := range d.Paths {
			add(p.Hash)
		}
		switch d.Kind {
		case PathInfo:
			add(d.Hash)
		case Directory:
			badDirs = append(badDirs, castore.Item{Digest: d.Digest})
		case Blob:
			badBlobs = append(badBlobs, castore.Item{Digest: d.Digest})
		}
	}
	always := time.Unix(math.MaxInt32*1000, 0) // whenever it was used
	a, err := infos.Remove(ctx, badInfos, always)
	c.report.Removed += len(a)
	if err != nil {
		return err
	}
	for _, x := range []struct {
		from  castore.Sweeper
		items []castore.Item
	}{{dirs, badDirs}, {blobs, badBlobs}} {
		gone, err := x.from.Remove(ctx, x.items, always)
		c.report.Removed += len(gone)
		if err != nil {
			return err
		}
	}
	return nil
}
