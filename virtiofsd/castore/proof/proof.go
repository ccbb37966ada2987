package proof

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
)

// buffers are of GroupSize bytes.
var buffers = sync.Pool{New: func() any { b := make([]byte, GroupSize); return &b }}

// Proof knows what of large contents was compared with their sums. Its methods
// may be called by several goroutines at once.
type Proof struct {
	sums   Sums
	proven []atomic.Uint32 // a bit for each group
}

// New makes a Proof of contents of which nothing was compared.
func New(s Sums) *Proof {
	return &Proof{sums: s, proven: make([]atomic.Uint32, (len(s.Groups)+31)/32)}
}

// Complete says that all was compared.
func (p *Proof) Complete() {
	for i := range p.proven {
		p.proven[i].Store(^uint32(0))
	}
}

// Prove compares the groups that the n bytes from off on lie in, unless that
// was done. r has the contents. What is beyond them is passed over.
func (p *Proof) Prove(r io.ReaderAt, off, n int64) error {
	end := min(off+n, p.sums.Size)
	if off < 0 || n <= 0 || end <= off {
		return nil
	}
	for i := off / GroupSize; i <= (end-1)/GroupSize; i++ {
		word, bit := &p.proven[i/32], uint32(1)<<(i%32)
		if word.Load()&bit != 0 {
			continue
		}
		if err := p.group(r, i); err != nil {
			return err
		}
		word.Or(bit)
	}
	return nil
}

// group compares one group.
func (p *Proof) group(r io.ReaderAt, i int64) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	b := (*buf)[:min(GroupSize, p.sums.Size-i*GroupSize)]
	if err := readFull(r, b, i*GroupSize); err != nil {
		return err
	}
	if xxhash.Sum64(b) != p.sums.Groups[i] {
		return fmt.Errorf("bytes %d to %d are not what was stored: %w", i*GroupSize, i*GroupSize+int64(len(b)), castore.ErrDamaged)
	}
	return nil
}

// Whole compares contents of size bytes with their digest, and returns their
// sums.
func Whole(r io.ReaderAt, size int64, d castore.Digest) (Sums, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	h := blake3.New()
	var s Summer
	for off := int64(0); off < size; {
		b := (*buf)[:min(GroupSize, size-off)]
		if err := readFull(r, b, off); err != nil {
			return Sums{}, err
		}
		_, _ = h.Write(b)
		_, _ = s.Write(b)
		off += int64(len(b))
	}
	return s.Sums(), compare(h, d)
}

// Small compares contents of up to GroupSize bytes, or few more, with their
// digest.
func Small(r io.ReaderAt, size int64, d castore.Digest) error {
	if size > GroupSize {
		_, err := Whole(r, size, d)
		return err
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	b := (*buf)[:size]
	if err := readFull(r, b, 0); err != nil {
		return err
	}
	return differ(blake3.Sum256(b), d)
}

func compare(h *blake3.Hasher, d castore.Digest) error {
	var got castore.Digest
	h.Sum(got[:0])
	return differ(got, d)
}

func differ(got, want castore.Digest) error {
	if got != want {
		return fmt.Errorf("they have the digest %s: %w", got, castore.ErrDamaged)
	}
	return nil
}

// readFull fills b. Contents that end early are damaged.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil, errors.Is(err, io.EOF):
		return fmt.Errorf("they end after %d bytes: %w", off+int64(n), castore.ErrDamaged)
	}
	return err
}
