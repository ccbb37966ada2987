package storefs

import (
	"sync"

	"storeboot/virtiofsd/castore"
)

// dirCache keeps directories in two generations: when the young one holds half
// of the limit it becomes the old one, and what was old and not asked for since
// goes. It costs no more than a map look-up, and keeps what is in use.
type dirCache struct {
	limit int // bytes in each generation, as cost reckons

	mu         sync.Mutex
	young, old map[castore.Digest]*castore.Directory
	bytes      int // in young
}

func newDirCache(bytes int) *dirCache {
	return &dirCache{limit: bytes / 2, young: map[castore.Digest]*castore.Directory{}}
}

func (c *dirCache) get(d castore.Digest) *castore.Directory {
	c.mu.Lock()
	defer c.mu.Unlock()
	if dir := c.young[d]; dir != nil {
		return dir
	}
	dir := c.old[d]
	if dir != nil {
		c.add(d, dir)
	}
	return dir
}

func (c *dirCache) put(d castore.Digest, dir *castore.Directory) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young[d] == nil {
		c.add(d, dir)
	}
}

func (c *dirCache) add(d castore.Digest, dir *castore.Directory) {
	n := cost(dir)
	if c.bytes+n > c.limit && c.bytes > 0 {
		c.old, c.young, c.bytes = c.young, map[castore.Digest]*castore.Directory{}, 0
	}
	c.young[d] = dir
	c.bytes += n
}

// cost is about what a directory takes in memory, in bytes: an entry and a name
// of usual length.
func cost(dir *castore.Directory) int { return 256 + 128*len(dir.Entries()) }
