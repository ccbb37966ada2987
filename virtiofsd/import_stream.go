package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/ingest"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storeaddr"
)

// stream is how the archive of an import is read.
type stream struct {
	file   string // "-" for standard input
	suffix string // that its name has besides that of the tree
	take   func(context.Context, castore.BlobService, castore.DirectoryService, io.Reader, func(files, bytes int64)) (ingest.Result, error)
}

func (o *importOptions) stream() (stream, error) {
	switch {
	case o.nar != "" && o.tar != "":
		return stream{}, cli.Usagef("only one of --nar and --tar is possible")
	case o.nar != "":
		return stream{o.nar, ".nar", ingest.NAR}, nil
	}
	return stream{o.tar, ".tar", ingest.Tar}, nil
}

// runStream stores the tree in an archive.
func (o *importOptions) runStream(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	s, err := o.stream()
	if err != nil {
		return err
	}
	if s.file == "-" && o.name == "" {
		return cli.Usagef("standard input has no name: give the tree one with --name")
	}
	path := s.file
	if o.name == "" {
		path = strings.TrimSuffix(filepath.Base(path), s.suffix)
	}
	names, err := o.names([]string{path})
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	in := stdin
	if s.file != "-" {
		f, err := os.Open(s.file)
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		defer f.Close()
		in = f
	}
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	info, err := importStream(ctx, store, s, in, names[0], stderr)
	if err == nil && o.json {
		err = writeJSON(stdout, []pathJSON{newPathJSON(info)})
	} else if err == nil {
		_, err = fmt.Fprintln(stdout, info.StorePath.Absolute())
	}
	if err = errors.Join(err, store.Close()); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	return nil
}

func importStream(ctx context.Context, store *storeaddr.Store, s stream, in io.Reader, name string, stderr io.Writer) (*pathinfo.PathInfo, error) {
	in, stop := interruptible(ctx, in)
	defer stop()
	progress := newProgress(stderr, name, 0)
	defer progress.end()
	info, err := storeTree(ctx, store, name, func() (ingest.Result, error) {
		return s.take(ctx, store.Blobs, store.Directories, in, progress.add)
	})
	if err != nil && s.file != "-" {
		err = fmt.Errorf("%s: %w", s.file, err)
	}
	return info, err
}

// interruptible is a reader of r that also ends with ctx, or when stop is
// called. A read of r that waits for a terminal or pipe then goes on waiting by
// itself, until the process ends.
func interruptible(ctx context.Context, r io.Reader) (io.Reader, func()) {
	out, in := io.Pipe()
	undo := context.AfterFunc(ctx, func() { _ = in.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{in}, struct{ io.Reader }{r}, make([]byte, 256<<10))
		_ = in.CloseWithError(err)
	}()
	return out, func() {
		undo()
		_ = out.Close()
	}
}
