package grpcserver

import (
	"context"
	"errors"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/wire"
)

type blobServer struct {
	castorev1.UnimplementedBlobServiceServer
	*Server
}

// digest checks a digest that a client sent.
func digest(b []byte) (castore.Digest, error) {
	if len(b) != castore.DigestSize {
		return castore.Digest{}, status.Errorf(codes.InvalidArgument, "invalid digest length: %d bytes instead of %d", len(b), castore.DigestSize)
	}
	return castore.Digest(b), nil
}

// failure makes the status for an error of the store: that of the caller's
// context if it has ended, else code.
func (s *Server) failure(ctx context.Context, code codes.Code, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	if errors.Is(err, castore.ErrDamaged) { // asking again would not help
		code = codes.DataLoss
	}
	method, _ := grpc.Method(ctx)
	s.o.Log.Error("call failed", "method", method, "error", err)
	return status.Error(code, err.Error())
}

// Stat says whether a blob is there. No chunks are named, even if the store has
// them: their digests say nothing about the blob, so that a client that trusts
// its server with nothing has to read a blob whole before it uses any of it.
func (s *blobServer) Stat(ctx context.Context, r *castorev1.StatBlobRequest) (*castorev1.StatBlobResponse, error) {
	d, err := digest(r.Digest)
	if err != nil {
		return nil, err
	}
	has, err := s.blobs.Has(ctx, d)
	switch {
	case err != nil:
		return nil, s.failure(ctx, codes.Internal, err)
	case !has:
		return nil, status.Errorf(codes.NotFound, "blob %s not found", d)
	}
	return &castorev1.StatBlobResponse{}, nil
}

// Read sends a blob in frames of [wire.FrameSize].
func (s *blobServer) Read(r *castorev1.ReadBlobRequest, stream grpc.ServerStreamingServer[castorev1.BlobChunk]) error {
	d, err := digest(r.Digest)
	if err != nil {
		return err
	}
	ctx := stream.Context()
	b, err := s.blobs.Open(ctx, d)
	switch {
	case errors.Is(err, castore.ErrNotFound):
		return status.Errorf(codes.NotFound, "blob %s not found", d)
	case err != nil:
		return s.failure(ctx, codes.Internal, err)
	}
	defer b.Close()
	for off := int64(0); off < b.Size(); {
		n := min(wire.FrameSize, b.Size()-off)
		buf := s.frames.Get(int(n))
		if m, err := b.ReadAt(*buf, off); int64(m) != n { // io.EOF may come with the last bytes
			s.frames.Put(buf)
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return s.failure(ctx, codes.Internal, err)
		}
		if err := stream.SendMsg(wire.NewChunk(buf, s.frames)); err != nil {
			return err
		}
		off += n
	}
	return nil
}

// Put stores a blob.
func (s *blobServer) Put(stream grpc.ClientStreamingServer[castorev1.BlobChunk, castorev1.PutBlobResponse]) error {
	ctx := stream.Context()
	w, err := s.blobs.Create(ctx)
	if err != nil {
		return s.failure(ctx, codes.Internal, err)
	}
	defer w.Abort()
	var size int64
	for {
		var c wire.Chunk
		err := stream.RecvMsg(&c)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		n, err := c.WriteTo(w)
		if err != nil {
			return s.failure(ctx, codes.Internal, err)
		}
		if size += n; size > s.o.MaxBlob {
			return status.Errorf(codes.ResourceExhausted, "the blob has more than %d bytes, of which the server takes no more", s.o.MaxBlob)
		}
	}
	d, err := w.Close()
	if err != nil {
		return s.failure(ctx, codes.Internal, err)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	durability := md.Get(wire.DurabilityKey)
	if !slices.Equal(durability, []string{wire.DurabilityDeferred}) {
		if err := s.blobs.Flush(ctx); err != nil {
			return s.failure(ctx, codes.Internal, err)
		}
	}
	if len(durability) > 0 {
		if err := stream.SetHeader(metadata.Pairs(wire.InstanceKey, s.instance)); err != nil {
			return err
		}
	}
	return stream.SendAndClose(&castorev1.PutBlobResponse{Digest: d[:]})
}
