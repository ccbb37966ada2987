package binarycache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"storeboot/virtiofsd/narcodec"
	"storeboot/virtiofsd/narinfo"
)

// maxNAR is the longest NAR of which the narinfo says no length, in bytes.
const maxNAR = 64 << 30

// maxTrailing is what may follow the end of the compressed stream, in bytes:
// padding.
const maxTrailing = 64 << 10

// errChanged is that a file became another one while it was read.
var errChanged = errors.New("the file was replaced while it was read")

// Download is a NAR that is being downloaded. Read gives the NAR; it is used by
// one goroutine at a time.
type Download struct {
	name     string
	raw      *resuming
	limited  *limited // raw, up to the file's size
	sum      hash.Hash
	nar      io.ReadCloser
	left     int64 // of the NAR
	narSize  int64
	fileHash *[sha256.Size]byte
	fileSize int64
	err      error // the first one
}

// OpenNAR opens the NAR of n. progress, unless nil, is called by the goroutine
// that reads, with the number of bytes that came since its last call. The
// result is to be closed.
func (c *Cache) OpenNAR(ctx context.Context, n *narinfo.NarInfo, progress func(bytes int64)) (*Download, error) {
	if progress == nil {
		progress = func(int64) {}
	}
	raw := &resuming{ctx: ctx, cache: c, key: n.URL, size: -1, progress: progress, pauser: pauser{retries: c.address.Retries}}
	d := &Download{name: fmt.Sprintf("binary cache %s: read %s", c, redact(n.URL)), raw: raw, sum: sha256.New(), fileHash: n.FileHash, fileSize: int64(n.FileSize), narSize: int64(n.NarSize)}
	d.left = d.narSize
	if d.left == 0 {
		d.left = maxNAR
	}
	if err := raw.begin(); err != nil {
		return nil, d.failed(err)
	}
	d.limited = &limited{r: raw, left: d.fileSize, bounded: d.fileSize > 0}
	codec, err := narcodec.ByName(n.Compression)
	var nar io.ReadCloser
	if err == nil {
		nar, err = codec.NewReader(io.TeeReader(d.limited, d.sum))
	}
	if err != nil {
		_ = raw.Close()
		return nil, d.failed(err)
	}
	d.nar = nar
	return d, nil
}

func (d *Download) failed(err error) error { return fmt.Errorf("%s: %w", d.name, err) }

// Read implements [io.Reader]. It ends with an error instead of [io.EOF] if the
// file is not the one that the narinfo describes.
func (d *Download) Read(p []byte) (n int, err error) {
	defer func() {
		if err != nil && err != io.EOF && d.err == nil {
			d.err = err
		}
	}()
	if int64(len(p)) > d.left+1 {
		p = p[:d.left+1]
	}
	n, err = d.nar.Read(p)
	if d.left -= int64(n); d.left < 0 {
		if d.narSize == 0 {
			return 0, d.failed(fmt.Errorf("the NAR is longer than %d bytes", int64(maxNAR)))
		}
		return 0, d.failed(fmt.Errorf("the NAR is longer than the %d bytes that its narinfo says", d.narSize))
	}
	switch {
	case err == nil:
	case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		if err := d.finish(); err != nil {
			return n, d.failed(err)
		}
		return n, io.EOF
	default:
		err = d.failed(err)
	}
	return n, err
}

// finish reads what is left of the file and checks it.
func (d *Download) finish() error {
	if d.narSize > 0 && d.left > 0 {
		return fmt.Errorf("the NAR has %d bytes, its narinfo says %d", d.narSize-d.left, d.narSize)
	}
	n, err := io.Copy(d.sum, io.LimitReader(d.limited, maxTrailing+1))
	if err != nil {
		return err
	}
	if n > maxTrailing {
		return fmt.Errorf("more than %d bytes follow the NAR", maxTrailing)
	}
	if d.fileSize > 0 && d.limited.left > 0 {
		return fmt.Errorf("the file has %d bytes, its narinfo says %d", d.fileSize-d.limited.left, d.fileSize)
	}
	if d.fileHash != nil && [sha256.Size]byte(d.sum.Sum(nil)) != *d.fileHash {
		return errors.New("the file does not have the hash that its narinfo says")
	}
	return nil
}

// Err is the first error that Read returned, if any: who reads the archive may say
// less.
func (d *Download) Err() error { return d.err }

// Close ends the download.
func (d *Download) Close() error {
	return errors.Join(d.nar.Close(), d.raw.Close())
}

// limited is an error after so many bytes.
type limited struct {
	r       io.Reader
	left    int64
	bounded bool
}

func (l *limited) Read(p []byte) (int, error) {
	if l.bounded && int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.bounded && l.left < 0 {
		return 0, errors.New("the file is longer than its narinfo says")
	}
	return n, err
}

// resuming reads a file to its end. When the transfer breaks it goes on where it
// was.
type resuming struct {
	ctx      context.Context
	cache    *Cache
	key      string
	body     io.ReadCloser // nil: to be opened
	at       int64         // what was handed out
	size     int64         // of the file, -1 if unknown
	tag      string
	progress func(int64)
	pauser   pauser
	since    int // bytes since the last repeat
}

func (r *resuming) Read(p []byte) (int, error) {
	for {
		n, err := r.read(p)
		if n > 0 {
			r.at += int64(n)
			r.cache.bytes.Add(int64(n))
			r.progress(int64(n))
			if r.since += n; r.since >= minProgress {
				r.pauser.failed = 0
			}
			return n, nil // an error comes again
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			if r.size < 0 || r.at == r.size {
				return 0, io.EOF
			}
			err = io.ErrUnexpectedEOF
		}
		_ = r.Close()
		if err := r.pauser.pause(r.ctx, err); err != nil {
			return 0, err
		}
	}
}

// begin opens the file, so that one that is missing is found out at once.
func (r *resuming) begin() error {
	for {
		err := r.open()
		if err == nil {
			return nil
		}
		if err := r.pauser.pause(r.ctx, err); err != nil {
			return err
		}
	}
}

func (r *resuming) read(p []byte) (int, error) {
	if r.body == nil {
		if err := r.open(); err != nil {
			return 0, err
		}
	}
	return r.body.Read(p)
}

// open opens the file where the reader is. Of a cache that begins at the start
// again, what is known already is read over: the hash at the end tells whether
// it is the same.
func (r *resuming) open() error {
	o, err := r.cache.open(r.ctx, r.key, r.at, r.tag)
	if err != nil {
		return err
	}
	switch {
	case o.encoding != "":
		err = permanentError{fmt.Errorf("Content-Encoding %q was not asked for", o.encoding[:min(len(o.encoding), 100)])}
	case r.at > 0 && (r.tag != "" && o.tag != "" && o.tag != r.tag || r.size >= 0 && o.size >= 0 && o.size != r.size):
		err = permanentError{errChanged}
	case o.offset < r.at:
		_, err = io.CopyN(io.Discard, o.body, r.at-o.offset)
	}
	if err != nil {
		_ = o.body.Close()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	r.body, r.tag, r.since = o.body, o.tag, 0
	if o.size >= 0 {
		r.size = o.size
	}
	return nil
}

func (r *resuming) Close() error {
	if r.body == nil {
		return nil
	}
	err := r.body.Close()
	r.body = nil
	return err
}
