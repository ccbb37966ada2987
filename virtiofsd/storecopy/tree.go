package storecopy

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"storeboot/virtiofsd/castore"
)

// workers is how many blobs are copied at once. Most of the time of a copy over
// a network is waiting for it.
const workers = 16

// bufferSize is how much of a blob is read at once, in bytes.
const bufferSize = 256 << 10

// tree copies blobs and directories, which survive a power loss when it returns.
func tree(ctx context.Context, from, to Store, root castore.Node, progress func(int64)) error {
	dirs, err := directories(ctx, from.Directories, root)
	if err != nil {
		return err
	}
	files := map[castore.Digest]uint64{} // sizes
	if root.Kind == castore.KindFile {
		files[root.Digest] = root.Size
	}
	for _, d := range dirs {
		for _, e := range d.Entries() {
			if e.Kind == castore.KindFile {
				files[e.Digest] = e.Size
			}
		}
	}
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for d, size := range files {
		if working.Err() != nil {
			break
		}
		group.Go(func() error { return blob(working, from.Blobs, to.Blobs, d, size, progress) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := to.Blobs.Flush(ctx); err != nil {
		return err
	}
	if len(dirs) == 0 {
		return nil
	}
	put, err := to.Directories.Put(ctx)
	if err != nil {
		return err
	}
	defer put.Abort()
	for _, d := range dirs {
		if _, err := put.Put(d); err != nil {
			return err
		}
	}
	_, err = put.Close()
	return err
}

// directories returns the directories of a tree, children before parents.
func directories(ctx context.Context, s castore.DirectoryService, root castore.Node) ([]*castore.Directory, error) {
	if root.Kind != castore.KindDirectory {
		return nil, nil
	}
	all := map[castore.Digest]*castore.Directory{}
	for d, err := range s.Closure(ctx, root.Digest) {
		if err != nil {
			return nil, err
		}
		all[d.Digest()] = d
	}
	type visit struct {
		dir  *castore.Directory
		next int // entry to visit
	}
	var order []*castore.Directory
	var stack []visit
	enter := func(digest castore.Digest) error {
		d := all[digest]
		if d == nil {
			return fmt.Errorf("directory %s: the source did not send it: %w", digest, castore.ErrNotFound)
		}
		stack = append(stack, visit{dir: d})
		return nil
	}
	if err := enter(root.Digest); err != nil {
		return nil, err
	}
	done := map[castore.Digest]bool{root.Digest: true} // or begun
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		entries := top.dir.Entries()
		if top.next == len(entries) {
			order = append(order, top.dir)
			stack = stack[:len(stack)-1]
			continue
		}
		e := entries[top.next]
		top.next++
		if e.Kind == castore.KindDirectory && !done[e.Digest] {
			done[e.Digest] = true
			if err := enter(e.Digest); err != nil {
				return nil, err
			}
		}
	}
	return order, nil
}

// blob copies a blob unless it is there.
func blob(ctx context.Context, from, to castore.BlobService, d castore.Digest, size uint64, progress func(int64)) error {
	if has, err := to.Has(ctx, d); err != nil {
		return err
	} else if has {
		progress(int64(size))
		return nil
	}
	b, err := from.Open(ctx, d)
	if err != nil {
		return err
	}
	defer b.Close()
	if uint64(b.Size()) != size {
		return fmt.Errorf("blob %s has %d bytes in the source and not %d, as its directory says", d, b.Size(), size)
	}
	w, err := to.Create(ctx)
	if err != nil {
		return err
	}
	defer w.Abort()
	in := io.NewSectionReader(b, 0, b.Size())
	buf := make([]byte, min(bufferSize, size+1))
	for left := size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(left, uint64(len(buf)))]
		if _, err := io.ReadFull(in, p); err != nil {
			return fmt.Errorf("read blob %s: %w", d, err)
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
		left -= uint64(len(p))
		progress(int64(len(p)))
	}
	got, err := w.Close()
	if err == nil && got != d {
		err = fmt.Errorf("blob %s: what the source has of it has the digest %s: the source is damaged", d, got)
	}
	return err
}
