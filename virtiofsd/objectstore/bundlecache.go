package objectstore

import (
	"container/list"
	"sync"

	"storeboot/virtiofsd/castore"
)

// bundleCache holds the bundles that were used last, and finds the directories
// in them.
type bundleCache struct {
	max int64 // bytes of encoded directories

	mu      sync.Mutex
	bundles map[castore.Digest]*list.Element    // by root
	holders map[castore.Digest][]castore.Digest // roots of the bundles that hold a directory
	order   *list.List                          // of *cachedBundle, last used first
	bytes   int64
}

type cachedBundle struct {
	root   castore.Digest
	bundle *bundle
}

func newBundleCache(max int64) *bundleCache {
	return &bundleCache{max: max, bundles: map[castore.Digest]*list.Element{}, holders: map[castore.Digest][]castore.Digest{}, order: list.New()}
}

// find returns a bundle that holds the directory d, or nil.
func (c *bundleCache) find(d castore.Digest) *bundle {
	c.mu.Lock()
	defer c.mu.Unlock()
	place, ok := c.bundles[d]
	if !ok {
		roots := c.holders[d]
		if len(roots) == 0 {
			return nil
		}
		place = c.bundles[roots[0]]
	}
	c.order.MoveToFront(place)
	return place.Value.(*cachedBundle).bundle
}

// add takes in the bundle of root. The last one stays, however large.
func (c *bundleCache) add(root castore.Digest, b *bundle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.bundles[root]; ok {
		return
	}
	c.bundles[root] = c.order.PushFront(&cachedBundle{root, b})
	c.bytes += b.bytes
	for d := range b.dirs {
		c.holders[d] = append(c.holders[d], root)
	}
	for c.bytes > c.max && c.order.Len() > 1 {
		c.remove(c.order.Remove(c.order.Back()).(*cachedBundle))
	}
}

func (c *bundleCache) remove(old *cachedBundle) {
	delete(c.bundles, old.root)
	c.bytes -= old.bundle.bytes
	for d := range old.bundle.dirs {
		roots := c.holders[d]
		for i, root := range roots {
			if root == old.root {
				roots[i] = roots[len(roots)-1]
				roots = roots[:len(roots)-1]
				break
			}
		}
		if len(roots) == 0 {
			delete(c.holders, d)
		} else {
			c.holders[d] = roots
		}
	}
}
