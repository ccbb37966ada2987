package grpcstore

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/zeebo/blake3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/wire"
	"storeboot/virtiofsd/spool"
)

// blobs is the blob service.
type blobs struct {
	conn   *Conn
	rpc    castorev1.BlobServiceClient
	closer func() error

	mu       sync.Mutex
	instance string // the server process that has blobs it has not flushed; empty for none
	stored   uint64 // how many blobs were
	broken   error  // it may have lost some
}

// Has implements [castore.BlobService].
func (s *blobs) Has(ctx context.Context, d castore.Digest) (bool, error) {
	if err := ctx.Err(); err != nil || d == castore.EmptyBlob {
		return err == nil, err
	}
	_, err := s.rpc.Stat(ctx, &castorev1.StatBlobRequest{Digest: d[:]})
	switch {
	case err == nil:
		return true, nil
	case status.Code(err) == codes.NotFound:
		return false, nil
	}
	return false, s.conn.failed(ctx, fmt.Sprintf("look for blob %s", d), err)
}

// Open implements [castore.BlobService]. It reads the whole blob.
func (s *blobs) Open(ctx context.Context, d castore.Digest) (castore.Blob, error) {
	sp := spool.New(s.conn.o.SpoolDir, s.conn.o.SpoolMemory)
	if d == castore.EmptyBlob {
		return sp.Blob(), nil
	}
	err := s.read(ctx, d, sp)
	if err == nil {
		return sp.Blob(), nil
	}
	sp.Drop()
	if status.Code(err) == codes.NotFound {
		return nil, fmt.Errorf("open blob %s: %w", d, castore.ErrNotFound)
	}
	return nil, s.conn.failed(ctx, fmt.Sprintf("read blob %s", d), err)
}

// read reads a blob into sp and compares its digest.
func (s *blobs) read(ctx context.Context, d castore.Digest, sp *spool.Spool) error {
	st, err := newStream(ctx, s.conn, func(ctx context.Context) (grpc.ClientStream, error) {
		return s.rpc.Read(ctx, &castorev1.ReadBlobRequest{Digest: d[:]})
	})
	if err != nil {
		return err
	}
	defer st.end()
	hash := blake3.New()
	both := io.MultiWriter(sp, hash)
	var size int64
	for {
		var c wire.Chunk
		err := st.recv(&c)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		sp.Reserve(c.Len())
		n, err := c.WriteTo(both)
		if err != nil {
			return err
		}
		if size += n; size > s.conn.o.MaxBlob {
			return fmt.Errorf("it has more than %d bytes", s.conn.o.MaxBlob)
		}
	}
	var got castore.Digest
	hash.Sum(got[:0])
	if got != d {
		return fmt.Errorf("it sent %d other bytes, with the digest %s: its store is damaged, or it is not to be trusted", size, got)
	}
	return nil
}

// Create implements [castore.BlobService].
func (s *blobs) Create(ctx context.Context) (castore.BlobWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil, s.broken
	}
	return s.newWriter(ctx, wire.DurabilityDeferred), nil
}

// noteStored notes that a server process holds a blob that it has not flushed.
// Foreign servers have no instance, and flush as they do.
func (s *blobs) noteStored(md metadata.MD) error {
	instance := md.Get(wire.InstanceKey)
	if len(instance) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored++
	if s.instance == "" {
		s.instance = instance[0]
	}
	return s.checkInstance(s.instance, instance[0])
}

// checkInstance says whether the process that held blobs is still the one that
// runs now. The caller holds mu.
func (s *blobs) checkInstance(held, now string) error {
	if held != now && s.broken == nil {
		s.broken = fmt.Errorf("store server %s was restarted before blobs were flushed and may have lost them: begin again", s.conn.server)
	}
	return s.broken
}

// Flush implements [castore.BlobService]. Our server flushes when an empty blob
// is stored with the metadata that asks for it.
func (s *blobs) Flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	instance, stored, broken := s.instance, s.stored, s.broken
	s.mu.Unlock()
	if broken != nil || instance == "" {
		return broken
	}
	w := s.newWriter(ctx, wire.DurabilityFlush)
	defer w.Abort()
	md, err := w.finish()
	if err != nil {
		return s.conn.failed(ctx, "flush blobs", err)
	}
	now := append(md.Get(wire.InstanceKey), "")[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.checkInstance(instance, now); err != nil {
		return err
	}
	if s.stored == stored {
		s.instance = ""
	}
	return nil
}

// Close implements [castore.BlobService].
func (s *blobs) Close() error { return s.closer() }
