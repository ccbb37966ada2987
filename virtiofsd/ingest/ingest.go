package ingest

import (
	"context"
	"crypto/sha256"
	"runtime"

	"golang.org/x/sync/errgroup"

	"storeboot/virtiofsd/castore"
)

// Result is what was taken in.
type Result struct {
	Node castore.Node
	// NarSize and NarSHA256 are those of the tree as a NAR, size in bytes.
	NarSize   uint64
	NarSHA256 [sha256.Size]byte
}

// Path takes in the tree at path. When it returns without error all blobs and
// directories are stored and survive a power loss; after an error some blobs
// may be stored, which nothing refers to.
//
// progress, unless nil, is called by one goroutine with the number of files and
// bytes read since its last call.
func Path(ctx context.Context, blobs castore.BlobService, dirs castore.DirectoryService, path string, progress func(files, bytes int64)) (Result, error) {
	progress = orNothing(progress)
	return run(ctx, blobs, dirs, func(p *pipe) error { return walk(p, path, progress) })
}

// orNothing is progress, or a function that does nothing.
func orNothing(progress func(files, bytes int64)) func(files, bytes int64) {
	if progress == nil {
		return func(int64, int64) {}
	}
	return progress
}

// run takes in the tree that source sends to the pipe.
func run(ctx context.Context, blobs castore.BlobService, dirs castore.DirectoryService, source func(*pipe) error) (Result, error) {
	putter, err := dirs.Put(ctx)
	if err != nil {
		return Result{}, err
	}
	defer putter.Abort()
	group, working := errgroup.WithContext(ctx)
	p := newPipe(working)
	a := newAssembler(putter)
	group.Go(func() error {
		if err := source(p); err != nil {
			return err // the others see the end of working, not of the tree
		}
		close(p.events)
		close(p.files)
		return nil
	})
	startStorers(group, p, blobs)
	group.Go(func() error { return a.run(p) })
	if err := group.Wait(); err != nil {
		return Result{}, err
	}
	// Directories refer to blobs: these have to be on the disk before.
	if err := blobs.Flush(ctx); err != nil {
		return Result{}, err
	}
	r := a.result()
	if r.Node.Kind == castore.KindDirectory {
		if _, err := putter.Close(); err != nil {
			return Result{}, err
		}
	}
	return r, nil
}

// startStorers starts goroutines that store the files of p.
func startStorers(group *errgroup.Group, p *pipe, blobs castore.BlobService) {
	// A storer waits for the disk now and then: one more than CPUs.
	for range runtime.GOMAXPROCS(0) + 1 {
		group.Go(func() error { return storeFiles(p, blobs) })
	}
}
