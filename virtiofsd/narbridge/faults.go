package narbridge

import (
	"context"
	"errors"

	"storeboot/virtiofsd/castore"
)

// storeFault marks an error as the store's, among those of a NAR that is taken
// in.
type storeFault struct{ err error }

func (f *storeFault) Error() string { return f.err.Error() }
func (f *storeFault) Unwrap() error { return f.err }

func fault(err error) error {
	if err == nil {
		return nil
	}
	return &storeFault{err}
}

func isFault(err error) bool { return errors.As(err, new(*storeFault)) }

// markedBlobs marks the errors of what is stored.
type markedBlobs struct{ castore.BlobService }

func (b markedBlobs) Create(ctx context.Context) (castore.BlobWriter, error) {
	w, err := b.BlobService.Create(ctx)
	if err != nil {
		return nil, fault(err)
	}
	return markedWriter{w}, nil
}

func (b markedBlobs) Flush(ctx context.Context) error { return fault(b.BlobService.Flush(ctx)) }

type markedWriter struct{ castore.BlobWriter }

func (w markedWriter) Write(p []byte) (int, error) {
	n, err := w.BlobWriter.Write(p)
	return n, fault(err)
}

func (w markedWriter) Close() (castore.Digest, error) {
	d, err := w.BlobWriter.Close()
	return d, fault(err)
}

// markedDirectories marks the errors of what is stored.
type markedDirectories struct{ castore.DirectoryService }

func (d markedDirectories) Put(ctx context.Context) (castore.DirectoryPutter, error) {
	p, err := d.DirectoryService.Put(ctx)
	if err != nil {
		return nil, fault(err)
	}
	return markedPutter{p}, nil
}

type markedPutter struct{ castore.DirectoryPutter }

func (p markedPutter) Put(d *castore.Directory) (castore.Digest, error) {
	digest, err := p.DirectoryPutter.Put(d)
	return digest, fault(err)
}

func (p markedPutter) Close() (castore.Digest, error) {
	digest, err := p.DirectoryPutter.Close()
	return digest, fault(err)
}
