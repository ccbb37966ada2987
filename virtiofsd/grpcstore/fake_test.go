package grpcstore_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"storeboot/virtiofsd/grpcstore"
	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/storev1"
)

// fake is a server that does what a test wants, and panics for the rest.
type fake struct {
	blobs struct {
		read func(grpc.ServerStreamingServer[castorev1.BlobChunk]) error
		put  func(grpc.ClientStreamingServer[castorev1.BlobChunk, castorev1.PutBlobResponse]) error
	}
	directories struct {
		get func(*castorev1.GetDirectoryRequest, grpc.ServerStreamingServer[castorev1.Directory]) error
		put func(grpc.ClientStreamingServer[castorev1.Directory, castorev1.PutDirectoryResponse]) error
	}
	pathInfos struct {
		get  func(context.Context) (*storev1.PathInfo, error)
		put  func(*storev1.PathInfo) (*storev1.PathInfo, error)
		list func(grpc.ServerStreamingServer[storev1.PathInfo]) error
	}
}

type fakeBlobs struct {
	castorev1.UnimplementedBlobServiceServer
	f *fake
}

func (s fakeBlobs) Read(_ *castorev1.ReadBlobRequest, stream grpc.ServerStreamingServer[castorev1.BlobChunk]) error {
	return s.f.blobs.read(stream)
}

func (s fakeBlobs) Put(stream grpc.ClientStreamingServer[castorev1.BlobChunk, castorev1.PutBlobResponse]) error {
	return s.f.blobs.put(stream)
}

type fakeDirectories struct {
	castorev1.UnimplementedDirectoryServiceServer
	f *fake
}

func (s fakeDirectories) Get(r *castorev1.GetDirectoryRequest, stream grpc.ServerStreamingServer[castorev1.Directory]) error {
	return s.f.directories.get(r, stream)
}

func (s fakeDirectories) Put(stream grpc.ClientStreamingServer[castorev1.Directory, castorev1.PutDirectoryResponse]) error {
	return s.f.directories.put(stream)
}

type fakePathInfos struct {
	storev1.UnimplementedPathInfoServiceServer
	f *fake
}

func (s fakePathInfos) Get(ctx context.Context, _ *storev1.GetPathInfoRequest) (*storev1.PathInfo, error) {
	return s.f.pathInfos.get(ctx)
}

func (s fakePathInfos) Put(_ context.Context, p *storev1.PathInfo) (*storev1.PathInfo, error) {
	return s.f.pathInfos.put(p)
}

func (s fakePathInfos) List(_ *storev1.ListPathInfoRequest, stream grpc.ServerStreamingServer[storev1.PathInfo]) error {
	return s.f.pathInfos.list(stream)
}

// connect serves f and connects to it.
func (f *fake) connect(t *testing.T, o grpcstore.Options) *grpcstore.Conn {
	t.Helper()
	l, address := listen(t)
	s := grpc.NewServer(grpc.MaxSendMsgSize(1 << 30))
	castorev1.RegisterBlobServiceServer(s, fakeBlobs{f: f})
	castorev1.RegisterDirectoryServiceServer(s, fakeDirectories{f: f})
	storev1.RegisterPathInfoServiceServer(s, fakePathInfos{f: f})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	c := dial(t, address, o)
	c.SetName("snix")
	return c
}
