package fileblobs

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/proof"
)

// sumsSuffix is added to the name of a large blob for its file of sums.
const sumsSuffix = ".sums"

// maxProofs bounds how many proofs are remembered. With one goes its blob's
// being proved, and the sums of a large one.
const maxProofs = 8192

// proofs remember which blobs were proved. The zero value is ready.
type proofs struct {
	mu sync.Mutex
	m  map[castore.Digest]*fileProof
}

// identity changes when a file is replaced or written to.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

// of is the proof of a file, for as long as it is the same.
func (p *proofs) of(d castore.Digest, info fs.FileInfo) *fileProof {
	st := info.Sys().(*syscall.Stat_t)
	id := identity{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.m[d]; f != nil && f.id == id {
		return f
	}
	if p.m == nil || len(p.m) >= maxProofs {
		for old := range p.m { // any
			delete(p.m, old)
			if len(p.m) < maxProofs {
				break
			}
		}
		if p.m == nil {
			p.m = map[castore.Digest]*fileProof{}
		}
	}
	f := &fileProof{id: id}
	p.m[d] = f
	return f
}

// fileProof is what is known of one file.
type fileProof struct {
	id    identity
	whole atomic.Bool // all of it was proved
	parts atomic.Pointer[proof.Proof]

	mu sync.Mutex // held while whole or parts are made
}

// prove compares n bytes from off on.
func (f *fileProof) prove(b *blob, off, n int64) error {
	if f.whole.Load() {
		return nil
	}
	parts := f.parts.Load()
	if parts == nil {
		var err error
		if parts, err = f.begin(b); parts == nil {
			return err
		}
	}
	return parts.Prove(b.file, off, n)
}

// begin proves the whole file, or, of a large one, reads its sums. One without
// sums, from an earlier version, is hashed and gets them.
func (f *fileProof) begin(b *blob) (*proof.Proof, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if parts := f.parts.Load(); parts != nil || f.whole.Load() {
		return parts, nil
	}
	path := b.file.Name() + sumsSuffix
	if b.size > proof.WholeSize {
		if sums, err := loadSums(path, b.digest, b.size); err == nil {
			parts := proof.New(sums)
			f.parts.Store(parts)
			return parts, nil
		}
	}
	sums, err := proof.Whole(b.file, b.size, b.digest)
	if err != nil {
		return nil, err
	}
	f.whole.Store(true)
	if b.size > proof.WholeSize && filepath.Base(path) == b.digest.Hex()+sumsSuffix {
		saveSums(path, b.digest, sums)
	}
	return nil, nil
}

func loadSums(path string, d castore.Digest, size int64) (proof.Sums, error) {
	f, err := os.Open(path)
	if err != nil {
		return proof.Sums{}, err
	}
	defer f.Close()
	return proof.Decode(f, d, size)
}

// saveSums writes a file of sums if it can: whoever does not find it, or finds
// it damaged by a power loss, hashes the blob.
func saveSums(path string, d castore.Digest, s proof.Sums) {
	part := path + ".part" // of several writers too, who write the same
	err := os.WriteFile(part, s.Encode(d), 0o644)
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		_ = os.Remove(part)
	}
}
