package grpcserver

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castorenar"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/storev1"
	"storeboot/virtiofsd/proto/wire"
)

// maxNAREntries is how many entries a tree may have to be made a NAR of. As a
// directory may be in a tree many times, a few directories can make a tree
// without end; no tree of files has that many.
const maxNAREntries = 1 << 28

type pathInfoServer struct {
	storev1.UnimplementedPathInfoServiceServer
	*Server
}

// Get sends the path info of a hash.
func (s *pathInfoServer) Get(ctx context.Context, r *storev1.GetPathInfoRequest) (*storev1.PathInfo, error) {
	by, ok := r.ByWhat.(*storev1.GetPathInfoRequest_ByOutputHash)
	if !ok {
		return nil, status.Error(codes.Unimplemented, "the request names no output hash, and path infos can be had by nothing else")
	}
	if len(by.ByOutputHash) != storepath.HashSize {
		return nil, status.Errorf(codes.InvalidArgument, "invalid output hash length: %d bytes instead of %d", len(by.ByOutputHash), storepath.HashSize)
	}
	hash := storepath.Hash(by.ByOutputHash)
	p, err := s.pathInfos.Get(ctx, hash)
	switch {
	case errors.Is(err, pathinfo.ErrNotFound):
		return nil, status.Errorf(codes.NotFound, "path info %s not found", hash)
	case err != nil:
		return nil, s.failure(ctx, codes.DataLoss, err)
	}
	return s.message(ctx, p)
}

// message is p as a generated message, which unary methods return.
func (s *pathInfoServer) message(ctx context.Context, p *pathinfo.PathInfo) (*storev1.PathInfo, error) {
	b, err := p.Encode()
	if err != nil {
		return nil, s.failure(ctx, codes.DataLoss, err)
	}
	m := &storev1.PathInfo{}
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, s.failure(ctx, codes.DataLoss, err)
	}
	return m, nil
}

// Put stores a path info and returns what is stored.
func (s *pathInfoServer) Put(ctx context.Context, m *storev1.PathInfo) (*storev1.PathInfo, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "Invalid path info: %v", err)
	}
	p, err := pathinfo.Parse(b)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "Invalid path info: %v", err)
	}
	if err := s.blobs.Flush(ctx); err != nil {
		return nil, s.failure(ctx, codes.DataLoss, err)
	}
	stored, err := s.pathInfos.Put(ctx, p)
	if err != nil {
		return nil, s.failure(ctx, codes.DataLoss, err)
	}
	return s.message(ctx, stored)
}

// CalculateNAR writes the NAR of a tree into a hash. What is missing in the tree
// is DATA_LOSS, as in tvix and snix.
func (s *pathInfoServer) CalculateNAR(ctx context.Context, m *castorev1.Entry) (*storev1.CalculateNARResponse, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	e, err := castore.ParseEntry(b)
	switch {
	case err != nil:
		return nil, status.Error(codes.InvalidArgument, err.Error())
	case e.Name != "":
		return nil, status.Errorf(codes.InvalidArgument, "the root of a NAR has no name, this one is called %q", e.Name)
	case e.Kind == castore.KindDirectory && e.Size > maxNAREntries:
		return nil, status.Errorf(codes.InvalidArgument, "the tree has %d entries, and at most %d make a NAR here", e.Size, maxNAREntries)
	}
	if err := s.nars.Acquire(ctx, 1); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	defer s.nars.Release(1)
	size, sum, err := castorenar.Digest(ctx, e.Node, s.blobs, s.directories)
	if err != nil {
		return nil, s.failure(ctx, codes.DataLoss, err)
	}
	return &storev1.CalculateNARResponse{NarSize: size, NarSha256: sum[:]}, nil
}

// List sends every path info, in the order of the hashes.
func (s *pathInfoServer) List(_ *storev1.ListPathInfoRequest, stream grpc.ServerStreamingServer[storev1.PathInfo]) error {
	ctx := stream.Context()
	if err := stream.SetHeader(metadata.Pairs(wire.ListOrderKey, wire.ListOrderHash)); err != nil {
		return err
	}
	for p, err := range s.pathInfos.List(ctx) {
		if err != nil {
			return s.failure(ctx, codes.Internal, err)
		}
		b, err := p.Encode()
		if err != nil {
			return s.failure(ctx, codes.Internal, err)
		}
		m := wire.Encoded(b)
		if err := stream.SendMsg(&m); err != nil {
			return err
		}
	}
	return nil
}
