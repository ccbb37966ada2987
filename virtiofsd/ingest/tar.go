package ingest

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"storeboot/virtiofsd/castore"
)

// Tar takes in the tree of a tar archive: ustar, PAX or GNU, not compressed. If
// the archive has an entry for its own root ("./"), that is the tree, else its
// one top-level entry is. Directories without an entry of their own are made,
// of several entries with one name the last counts, hard links are files.
//
// Names are taken relative to the root, wherever they lead within it; one that
// leads out of it is an error, and so are devices, fifos and names and paths
// that Linux could not have. Promises and r are those of [NAR].
func Tar(ctx context.Context, blobs castore.BlobService, dirs castore.DirectoryService, r io.Reader, progress func(files, bytes int64)) (Result, error) {
	t := &tarTree{top: newTarDirectory()}
	group, working := errgroup.WithContext(ctx)
	p := newPipe(working)
	group.Go(func() error {
		if err := readTar(p, r, t, orNothing(progress)); err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		close(p.files)
		return nil
	})
	startStorers(group, p, blobs)
	if err := group.Wait(); err != nil {
		return Result{}, err
	}
	if err := blobs.Flush(ctx); err != nil {
		return Result{}, err
	}
	root, err := t.root()
	if err != nil {
		return Result{}, fmt.Errorf("read tar: %w", err)
	}
	return storeTar(ctx, blobs, dirs, root)
}

// readTar reads an archive into t and sends the files to the storers.
func readTar(p *pipe, r io.Reader, t *tarTree, progress func(files, bytes int64)) error {
	for in := tar.NewReader(r); ; {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		node, err := tarNodeOf(h)
		switch {
		case err != nil:
			return fmt.Errorf("%q: %w", h.Name, err)
		case h.Typeflag == tar.TypeXGlobalHeader:
			continue
		case h.Typeflag == tar.TypeLink:
			if node, err = t.file(h.Linkname); err != nil {
				return fmt.Errorf("%q: hard link: %w", h.Name, err)
			}
		}
		if err := t.add(h.Name, node); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
		progress(1, 0)
		if h.Typeflag == tar.TypeLink || node.file == nil {
			continue
		}
		if err := sendContents(p, in, node.file, nil, progress); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

// tarNodeOf is the node that a header stands for; nil if it needs another one
// or stands for none.
func tarNodeOf(h *tar.Header) (*tarNode, error) {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		if h.Size < 0 {
			return nil, fmt.Errorf("a size of %d bytes", h.Size)
		}
		return &tarNode{file: newFile(uint64(h.Size), h.Mode&0o100 != 0)}, nil
	case tar.TypeSymlink:
		n := castore.Node{Kind: castore.KindSymlink, Target: h.Linkname}
		return &tarNode{target: h.Linkname}, n.Check()
	case tar.TypeDir:
		return newTarDirectory(), nil
	case tar.TypeLink, tar.TypeXGlobalHeader:
		return nil, nil
	}
	return nil, fmt.Errorf("an entry of type %q; only files, directories and links can be stored", h.Typeflag)
}
