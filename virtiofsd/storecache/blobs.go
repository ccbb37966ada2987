package storecache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"storeboot/virtiofsd/castore"
)

const (
	// maxBlobFills is how many blobs are copied from far at once.
	maxBlobFills = 16
	// copyBuffer is what each copy holds in memory, in bytes.
	copyBuffer = 256 << 10
	// flushBlobs and flushBytes are after how many copied blobs or bytes near is
	// flushed, so that other processes see them and a crash costs little.
	flushBlobs = 1024
	flushBytes = 256 << 20
)

// blobs is the cache of blobs.
type blobs struct {
	near, far castore.BlobService
	log       *slog.Logger
	fills     *flights[castore.Digest, bool]
	slots     chan struct{}
	buffers   sync.Pool   // of *[]byte with length copyBuffer
	inFar     atomic.Bool // Has found a blob in far alone since the last Flush

	// mu guards what is below: what was copied since near was last flushed.
	mu          sync.Mutex
	copiedBlobs int
	copiedBytes int64
}

// NewBlobs makes a service of near and far; see the package for what it does. A
// blob that only far has is copied to near whole before Open returns it, also
// for who wants its beginning alone: that its contents are right is known when
// all of them have been hashed, and not before. A nil log is told nothing.
func NewBlobs(near, far castore.BlobService, log *slog.Logger) castore.BlobService {
	return &blobs{
		near: near, far: far, log: logger(log),
		fills:   newFlights[castore.Digest, bool](),
		slots:   make(chan struct{}, maxBlobFills),
		buffers: sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }},
	}
}

func logger(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}

// Has implements [castore.BlobService].
func (s *blobs) Has(ctx context.Context, d castore.Digest) (bool, error) {
	has, nearErr := s.near.Has(ctx, d)
	if has && nearErr == nil {
		return true, nil
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	has, err := s.far.Has(ctx, d)
	switch {
	case err != nil:
		return false, errors.Join(nearErr, err)
	case has:
		s.inFar.Store(true)
		return true, nil
	}
	return false, nearErr
}

// Open implements [castore.BlobService].
func (s *blobs) Open(ctx context.Context, d castore.Digest) (castore.Blob, error) {
	b, nearErr := s.near.Open(ctx, d)
	if nearErr == nil {
		return b, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !errors.Is(nearErr, castore.ErrNotFound) {
		s.log.Warn("near store cannot be read", "error", nearErr)
		return s.openFar(ctx, d, nearErr)
	}
	stored, err := s.fills.do(ctx, d, func(ctx context.Context) (bool, error) { return s.fill(ctx, d) })
	if err != nil {
		return nil, err
	}
	if stored {
		if b, nearErr = s.near.Open(ctx, d); nearErr == nil {
			return b, nil
		}
		s.log.Warn("near store has lost a blob", "error", nearErr)
	}
	return s.openFar(ctx, d, nil)
}

func (s *blobs) openFar(ctx context.Context, d castore.Digest, nearErr error) (castore.Blob, error) {
	b, err := s.far.Open(ctx, d)
	if err == nil {
		return b, nil
	}
	// What near has and cannot give is not missing.
	if nearErr != nil && errors.Is(err, castore.ErrNotFound) {
		return nil, nearErr
	}
	return nil, errors.Join(nearErr, err)
}

// fill copies a blob to near and says whether it is there now. The error is one
// of far.
func (s *blobs) fill(ctx context.Context, d castore.Digest) (bool, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if has, err := s.near.Has(ctx, d); has && err == nil {
		return true, nil // it came while this was about to begin
	}
	b, err := s.far.Open(ctx, d)
	if err != nil {
		return false, err
	}
	defer b.Close()
	w, err := s.near.Create(ctx)
	if err != nil {
		s.log.Warn("near store takes no blob", "error", err)
		return false, ctx.Err()
	}
	defer w.Abort()
	if nearErr, err := s.copy(ctx, w, b); err != nil {
		return false, fmt.Errorf("read blob %s: %w", d, err)
	} else if nearErr != nil {
		s.log.Warn("near store takes no blob", "error", nearErr)
		return false, ctx.Err()
	}
	got, err := w.Close()
	switch {
	case err != nil:
		s.log.Warn("near store takes no blob", "error", err)
		return false, ctx.Err()
	case got != d:
		return false, fmt.Errorf("open blob %s: the far store sent contents that have the digest %s", d, got)
	}
	s.copied(b.Size())
	return true, nil
}

// copy copies b to w. Errors of near and of far are told apart.
func (s *blobs) copy(ctx context.Context, w io.Writer, b castore.Blob) (nearErr, err error) {
	buffer := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buffer)
	for off := int64(0); off < b.Size(); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p := (*buffer)[:min(copyBuffer, b.Size()-off)]
		if n, err := b.ReadAt(p, off); n < len(p) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if _, err := w.Write(p); err != nil {
			return err, nil
		}
		off += int64(len(p))
	}
	return nil, nil
}

// copied counts what was copied and flushes near when it is much.
func (s *blobs) copied(size int64) {
	s.mu.Lock()
	s.copiedBlobs++
	s.copiedBytes += size
	much := s.copiedBlobs >= flushBlobs || s.copiedBytes >= flushBytes
	if much {
		s.copiedBlobs, s.copiedBytes = 0, 0
	}
	s.mu.Unlock()
	if much {
		s.fills.wg.Go(s.flushNear) // from within a flight, so Close waits for it
	}
}

func (s *blobs) flushNear() {
	if err := s.near.Flush(context.Background()); err != nil {
		s.log.Warn("near store cannot be flushed", "error", err)
	}
}

// Create implements [castore.BlobService].
func (s *blobs) Create(ctx context.Context) (castore.BlobWriter, error) {
	return s.near.Create(ctx)
}

// Flush implements [castore.BlobService].
func (s *blobs) Flush(ctx context.Context) error {
	inFar := s.inFar.Swap(false)
	err := s.near.Flush(ctx)
	if err == nil && inFar {
		err = s.far.Flush(ctx)
	}
	if err != nil && inFar {
		s.inFar.Store(true)
	}
	return err
}

// Close implements [castore.BlobService].
func (s *blobs) Close() error {
	s.fills.close()
	s.mu.Lock()
	copied := s.copiedBlobs > 0
	s.copiedBlobs, s.copiedBytes = 0, 0
	s.mu.Unlock()
	if copied {
		s.flushNear()
	}
	return nil
}
