package grpcserver

import (
	"context"
	"fmt"
	"hash"
	"io"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/nar"
)

// maxNAREntries is how many entries a tree may have to be made a NAR of. As a
// directory may be in a tree many times, a few directories can make a tree
// without end; no tree of files has that many.
const maxNAREntries = 1 << 28

// countingHash is a hash that knows how much it took, in bytes.
type countingHash struct {
	hash.Hash
	size uint64
}

func (c *countingHash) Write(p []byte) (int, error) {
	c.size += uint64(len(p))
	return c.Hash.Write(p)
}

// WriteNAR writes the tree at root as a NAR. It is an error if something of the
// tree is missing or is of another size than its parent says. Memory: the
// entries of the directories from the root to where it is.
func WriteNAR(ctx context.Context, w io.Writer, root castore.Node, blobs castore.BlobService, directories castore.DirectoryService) error {
	r := &narRenderer{w: nar.NewWriter(w), blobs: blobs, directories: directories, buf: make([]byte, 256<<10)}
	if err := r.node(ctx, root); err != nil {
		return fmt.Errorf("write NAR: %w", err)
	}
	for len(r.open) > 0 { // not recursive: a hostile tree may be very deep
		top := &r.open[len(r.open)-1]
		if len(*top) == 0 {
			if err := r.w.EndDirectory(); err != nil {
				return err
			}
			r.open = r.open[:len(r.open)-1]
			continue
		}
		e := (*top)[0]
		*top = (*top)[1:]
		if err := r.w.Entry(e.Name); err != nil {
			return err
		}
		if err := r.node(ctx, e.Node); err != nil {
			return fmt.Errorf("write NAR: %q: %w", e.Name, err)
		}
	}
	return r.w.Close()
}

type narRenderer struct {
	w           *nar.Writer
	blobs       castore.BlobService
	directories castore.DirectoryService
	open        [][]castore.Entry // what is still to be written of each open directory
	buf         []byte
}

// node writes a file or symlink, or begins a directory.
func (r *narRenderer) node(ctx context.Context, n castore.Node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	switch n.Kind {
	case castore.KindSymlink:
		return r.w.Symlink(n.Target)
	case castore.KindFile:
		return r.file(ctx, n)
	}
	dir, err := r.directories.Get(ctx, n.Digest)
	if err != nil {
		return err
	}
	if dir.Size() != n.Size {
		return fmt.Errorf("directory %s has %d descendants and not %d, as its parent says", n.Digest, dir.Size(), n.Size)
	}
	r.open = append(r.open, dir.Entries())
	return r.w.Directory()
}

func (r *narRenderer) file(ctx context.Context, n castore.Node) error {
	b, err := r.blobs.Open(ctx, n.Digest)
	if err != nil {
		return err
	}
	defer b.Close()
	if uint64(b.Size()) != n.Size {
		return fmt.Errorf("blob %s has %d bytes and not %d, as its parent says", n.Digest, b.Size(), n.Size)
	}
	if err := r.w.File(n.Size, n.Executable); err != nil {
		return err
	}
	for off := int64(0); off < b.Size(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := r.buf[:min(int64(len(r.buf)), b.Size()-off)]
		if m, err := b.ReadAt(p, off); m < len(p) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read blob %s: %w", n.Digest, err)
		}
		if _, err := r.w.Write(p); err != nil {
			return err
		}
		off += int64(len(p))
	}
	return nil
}
