package objectstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/spool"
)

const (
	// maxProofs is how many blobs are known to be what their index says, at 80
	// bytes each. Beyond it all are forgotten, and proved again when needed.
	maxProofs = 1 << 18
	// maxUnspooled is up to which size a blob that is proved leaves its chunks
	// in the cache alone, in bytes. A larger one goes to a temporary file too,
	// as the cache would have forgotten its first chunks when its last come.
	maxUnspooled = cacheSize / 2
	// proofAhead is how many chunks are loaded beyond the one that is hashed.
	proofAhead = 8
)

// proofs is of which blobs the index is known to be right: its chunks, in this
// order, have the digest of the blob. An index has no digest of its own, so that
// this takes reading all chunks, once for each process.
type proofs struct {
	mu      sync.Mutex
	indexes map[castore.Digest]castore.Digest // digest of the index of a blob
	working map[castore.Digest]chan struct{}  // closed when nobody proves the blob any more
}

func newProofs() *proofs {
	return &proofs{indexes: map[castore.Digest]castore.Digest{}, working: map[castore.Digest]chan struct{}{}}
}

func (p *proofs) add(blob, index castore.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.indexes) >= maxProofs {
		clear(p.indexes)
	}
	p.indexes[blob] = index
}

// begin waits until nobody proves the blob. If it is proved then with this
// index, end is nil; else the caller is the one to do it, until it calls end.
func (p *proofs) begin(ctx context.Context, blob, index castore.Digest) (end func(), err error) {
	for {
		p.mu.Lock()
		if p.indexes[blob] == index {
			p.mu.Unlock()
			return nil, nil
		}
		others, busy := p.working[blob]
		if !busy {
			done := make(chan struct{})
			p.working[blob] = done
			p.mu.Unlock()
			return func() {
				p.mu.Lock()
				delete(p.working, blob)
				p.mu.Unlock()
				close(done)
			}, nil
		}
		p.mu.Unlock()
		select {
		case <-others:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// wrong is that the chunks of an index do not make up its blob.
type wrong struct{ blob, got castore.Digest }

func (e wrong) Error() string {
	return fmt.Sprintf("the chunks of %s make up %s: the store is damaged", blobSpace.key(e.blob), e.got)
}

// prove returns nil when the chunks are known to make up the blob. Nothing of
// the blob may be handed out before.
func (b *blob) prove() error {
	if b.proved.Load() {
		return nil
	}
	b.proving.Lock()
	defer b.proving.Unlock()
	if b.proved.Load() || b.bad != nil {
		return b.bad
	}
	end, err := b.store.proofs.begin(b.ctx, b.digest, b.index)
	if err != nil {
		return err
	}
	if end != nil {
		err = b.readAll()
		end()
	}
	if w := (wrong{}); errors.As(err, &w) { // another attempt would find the same
		b.bad = err
	}
	if err == nil {
		b.proved.Store(true)
	}
	return err
}

// readAll reads all chunks and compares what they make up. A large blob stays in
// a temporary file as long as it is open, if there can be one.
func (b *blob) readAll() error {
	var kept *spool.Spool
	if b.Size() > b.store.unspooled {
		kept = spool.New(b.store.spoolDir, 0)
	}
	drop := func() {
		if kept != nil {
			kept.Drop()
			kept = nil
		}
	}
	sum := blake3.New()
	for i := range b.chunks {
		for j := i + 1; j <= i+proofAhead && j < len(b.chunks); j++ {
			b.store.cache.prefetch(b.chunks[j].digest, requests)
		}
		data, err := b.load(i)
		if err != nil {
			drop()
			return err
		}
		_, _ = sum.Write(data) // never fails
		if kept != nil {
			if _, err := kept.Write(data); err != nil { // no room: it can be read chunk by chunk too
				drop()
			}
		}
	}
	if got := castore.Digest(sum.Sum(nil)); got != b.digest {
		drop()
		return wrong{b.digest, got}
	}
	b.store.proofs.add(b.digest, b.index)
	if kept != nil {
		b.spooled = kept.Blob()
	}
	return nil
}
