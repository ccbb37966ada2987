package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/nar"
)

// NAR takes in the one NAR that r holds, up to its end. The promises are those
// of [Path]. r is not read by anybody when NAR returns; a read that waits is
// waited for, also when ctx is done.
func NAR(ctx context.Context, blobs castore.BlobService, dirs castore.DirectoryService, r io.Reader, progress func(files, bytes int64)) (Result, error) {
	progress = orNothing(progress)
	return run(ctx, blobs, dirs, func(p *pipe) error { return readNAR(p, r, progress) })
}

// readNAR sends the tree of a NAR.
func readNAR(p *pipe, r io.Reader, progress func(files, bytes int64)) error {
	in := nar.NewReader(r)
	for {
		e, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch e.Kind {
		case nar.Directory:
			err = send(p.ctx, p.events, event{kind: beginDirectory, name: e.Name})
		case nar.EndDirectory:
			err = send(p.ctx, p.events, event{kind: endDirectory})
		case nar.Symlink:
			progress(1, 0)
			err = send(p.ctx, p.events, event{kind: symlink, name: e.Name, target: e.Target})
		case nar.File:
			err = sendFile(p, in, e, progress)
		default:
			err = fmt.Errorf("read NAR: unknown event %d", e.Kind)
		}
		if err != nil {
			return err
		}
	}
}

// sendFile sends a file of a NAR.
func sendFile(p *pipe, in *nar.Reader, e nar.Event, progress func(files, bytes int64)) error {
	f := newFile(e.Size, e.Executable)
	if err := send(p.ctx, p.events, event{kind: regular, name: e.Name, file: f}); err != nil {
		return err
	}
	err := sendContents(p, in, f, func(c *chunk) error {
		return send(p.ctx, p.events, event{kind: data, chunk: c})
	}, progress)
	progress(1, 0)
	return err
}

// sendContents hands f to the storers and sends its contents, read from r, to
// them and, unless it is nil, to also.
func sendContents(p *pipe, r io.Reader, f *file, also func(*chunk) error, progress func(files, bytes int64)) error {
	if err := send(p.ctx, p.files, f); err != nil {
		return err
	}
	for left := f.size; left > 0; {
		c, err := p.chunk()
		if err != nil {
			return err
		}
		c.buf = c.buf[:min(left, chunkSize)]
		if _, err := io.ReadFull(r, c.buf); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		left -= uint64(len(c.buf))
		progress(0, int64(len(c.buf)))
		c.users.Store(1)
		if also != nil {
			c.users.Store(2)
		}
		if err := send(p.ctx, f.content, c); err != nil {
			return err
		}
		if also == nil {
			continue
		}
		if err := also(c); err != nil {
			return err
		}
	}
	return nil
}
