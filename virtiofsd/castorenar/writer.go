package castorenar

import (
	"context"
	"fmt"
	"io"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/nar"
)

// bufferSize is how much of a file is read at once, in bytes.
const bufferSize = 256 << 10

// Write writes the tree at root as a NAR. It is an error if something of the
// tree is missing (castore.ErrNotFound) or is of another size than its parent
// says. Errors of w are returned as they are, wrapped.
func Write(ctx context.Context, w io.Writer, root castore.Node, blobs castore.BlobService, directories castore.DirectoryService) error {
	t := &writer{w: nar.NewWriter(w), blobs: blobs, directories: directories, buf: make([]byte, bufferSize)}
	if err := t.node(ctx, root); err != nil {
		return fmt.Errorf("write NAR: %w", err)
	}
	for len(t.open) > 0 { // not recursive: a hostile tree may be very deep
		top := &t.open[len(t.open)-1]
		if len(*top) == 0 {
			if err := t.w.EndDirectory(); err != nil {
				return err
			}
			t.open = t.open[:len(t.open)-1]
			continue
		}
		e := (*top)[0]
		*top = (*top)[1:]
		if err := t.w.Entry(e.Name); err != nil {
			return err
		}
		if err := t.node(ctx, e.Node); err != nil {
			return fmt.Errorf("write NAR: %q: %w", e.Name, err)
		}
	}
	return t.w.Close()
}

// writer writes one tree.
type writer struct {
	w           *nar.Writer
	blobs       castore.BlobService
	directories castore.DirectoryService
	open        [][]castore.Entry // what is still to be written of each open directory
	buf         []byte
}

// node writes a file or symlink, or begins a directory.
func (t *writer) node(ctx context.Context, n castore.Node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	switch n.Kind {
	case castore.KindSymlink:
		return t.w.Symlink(n.Target)
	case castore.KindFile:
		return t.file(ctx, n)
	case castore.KindDirectory:
		return t.directory(ctx, n)
	}
	return fmt.Errorf("%s has no form in a NAR", n.Kind)
}

func (t *writer) directory(ctx context.Context, n castore.Node) error {
	dir, err := t.directories.Get(ctx, n.Digest)
	if err != nil {
		return err
	}
	if !dir.HasSize(n.Size) {
		return fmt.Errorf("directory %s has the size %d and not %d, as its parent says", n.Digest, dir.Size(), n.Size)
	}
	t.open = append(t.open, dir.Entries())
	return t.w.Directory()
}

func (t *writer) file(ctx context.Context, n castore.Node) error {
	b, err := t.blobs.Open(ctx, n.Digest)
	if err != nil {
		return err
	}
	defer b.Close()
	if uint64(b.Size()) != n.Size {
		return fmt.Errorf("blob %s has %d bytes and not %d, as its parent says", n.Digest, b.Size(), n.Size)
	}
	if err := t.w.File(n.Size, n.Executable); err != nil {
		return err
	}
	for off := int64(0); off < b.Size(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := t.buf[:min(int64(len(t.buf)), b.Size()-off)]
		if m, err := b.ReadAt(p, off); m < len(p) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read blob %s: %w", n.Digest, err)
		}
		if _, err := t.w.Write(p); err != nil {
			return err
		}
		off += int64(len(p))
	}
	return nil
}
