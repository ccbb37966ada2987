package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/gc"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storeaddr"
	"storeboot/virtiofsd/storecopy"
)

// toStore copies from the store to another one.
func (o *copyOptions) toStore(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var paths []storepath.StorePath
	for _, arg := range args {
		p, err := wholePath(arg)
		if err != nil {
			return err
		}
		paths = append(paths, p)
	}
	from, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return fmt.Errorf("copy from: %w", err)
	}
	to, err := storeaddr.Open(ctx, o.to)
	if err != nil {
		return fmt.Errorf("copy to: %w", errors.Join(err, from.Close()))
	}
	done, err := o.copyBetween(ctx, from, to, paths, stderr)
	if err = errors.Join(err, o.print(stdout, done), from.Close(), to.Close()); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	return nil
}

// copyBetween copies the closure of paths and returns what was done, also
// beside an error.
func (o *copyOptions) copyBetween(ctx context.Context, from, to *storeaddr.Store, paths []storepath.StorePath, stderr io.Writer) ([]copyJSON, error) {
	done := []copyJSON{}
	source := storecopy.Store{Blobs: from.Blobs, Directories: from.Directories, PathInfos: from.PathInfos}
	target := storecopy.Store{Blobs: to.Blobs, Directories: to.Directories, PathInfos: to.PathInfos}
	release, err := gc.Hold(ctx, to.Blobs) // what is copied first is needed at the end
	if err != nil {
		return done, err
	}
	defer release()
	if o.all {
		for info, err := range from.PathInfos.List(ctx) {
			if err != nil {
				return done, err
			}
			paths = append(paths, info.StorePath)
		}
	}
	for _, p := range paths {
		if _, err := getPathInfo(ctx, from, p); err != nil {
			return done, err
		}
	}
	closure, err := storecopy.Closure(ctx, source.PathInfos, target.PathInfos, paths)
	if err != nil {
		return done, err
	}
	progress := newPathProgress(stderr, closure)
	defer progress.end()
	for _, info := range closure {
		now, copied, err := storecopy.Path(ctx, source, target, info, func(n int64) { progress.add(0, n) })
		if err != nil {
			return done, fmt.Errorf("%s: %w", info.StorePath.Absolute(), err)
		}
		progress.path()
		done = append(done, copyJSON{newPathJSON(now), copied})
	}
	return done, nil
}

// newPathProgress begins the progress of a copy of a closure.
func newPathProgress(w io.Writer, closure []*pathinfo.PathInfo) *progress {
	var total int64
	for _, info := range closure {
		total += int64(min(info.NarSize, 1<<62-uint64(total)))
	}
	return newCountedProgress(w, "copy", total, len(closure))
}
