package storefs

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"storeboot/virtiofsd/castore"
)

// TestBlobCache holds that the number of open blobs is bounded, and that one in
// use is not closed.
func TestBlobCache(t *testing.T) {
	ctx := context.Background()
	w := &world{t: t, store: memoryStore()}
	var nodes []castore.Node
	for i := range 10 {
		nodes = append(nodes, w.putFile(fmt.Sprint("file ", i), false))
	}
	c := newBlobCache(ctx, w.store.Blobs, 3, time.Minute, &Caches{})
	var held []*openBlob
	for _, n := range nodes[:5] {
		b, err := c.acquire(contextWaiter{ctx}, n.Digest)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, b)
	}
	if len(c.open) != 5 {
		t.Errorf("%d open, all in use", len(c.open))
	}
	for _, b := range held {
		c.release(b)
	}
	for range 3 {
		for _, n := range nodes {
			b, err := c.acquire(contextWaiter{ctx}, n.Digest)
			if err != nil {
				t.Fatal(err)
			}
			c.release(b)
		}
	}
	if len(c.open) != 3 || c.lru.Len() != 3 {
		t.Errorf("%d open", len(c.open))
	}
	if _, err := c.acquire(contextWaiter{ctx}, castore.Digest{1}); !errors.Is(err, castore.ErrNotFound) {
		t.Errorf("a missing blob: %v", err)
	}
	c.close()
	if len(c.open) != 0 {
		t.Error("not closed")
	}
}
