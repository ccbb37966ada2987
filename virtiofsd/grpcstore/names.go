package grpcstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/storev1"
	"storeboot/virtiofsd/proto/wire"
)

// The packages of the services begin with one of these.
const (
	snixPrefix = "/snix."
	tvixPrefix = "/tvix."
)

// deadlineSkew is how much earlier than we a server may see a deadline pass.
const deadlineSkew = 500 * time.Millisecond

// Invoke implements [grpc.ClientConnInterface] for methods of the snix names.
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.o.Timeout, errTimeout)
	defer cancel()
	prefix, err := c.name(ctx, method)
	if err == nil {
		err = c.cc.Invoke(ctx, renamed(method, prefix), args, reply, opts...)
	}
	return c.result(ctx, err)
}

// NewStream implements [grpc.ClientConnInterface] for methods of the snix names.
func (c *Conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	prefix, err := c.name(ctx, method)
	if err != nil {
		return nil, c.result(ctx, err)
	}
	s, err := c.cc.NewStream(ctx, desc, renamed(method, prefix), opts...)
	return s, c.result(ctx, err)
}

// result makes the most of an error: when a wait of ours has ended the call,
// that is the cause. A server that does not know a method may have become
// another one.
func (c *Conn) result(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	switch status.Code(err) {
	case codes.Unimplemented:
		c.prefix.Store(nil)
	case codes.Canceled, codes.DeadlineExceeded:
		// The server knows the deadline too, and may be the first to give up.
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < deadlineSkew {
			<-ctx.Done()
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func renamed(method, prefix string) string {
	return prefix + strings.TrimPrefix(method, snixPrefix)
}

// name says which name the server speaks. If that is not known, the service of
// method is asked under both; meanwhile other callers wait.
func (c *Conn) name(ctx context.Context, method string) (string, error) {
	if p := c.prefix.Load(); p != nil {
		return *p, nil
	}
	select {
	case c.probing <- struct{}{}:
		defer func() { <-c.probing }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if p := c.prefix.Load(); p != nil {
		return *p, nil
	}
	for _, prefix := range []string{snixPrefix, tvixPrefix} {
		err := c.probe(ctx, method, prefix)
		switch status.Code(err) {
		case codes.Unimplemented:
			continue
		case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unauthenticated, codes.PermissionDenied:
			return "", err
		}
		c.prefix.Store(&prefix)
		return prefix, nil
	}
	service, _, _ := strings.Cut(strings.TrimPrefix(method, snixPrefix), "/")
	return "", status.Errorf(codes.Unimplemented, "it speaks neither snix.%[1]s nor tvix.%[1]s: is it a store daemon?", service)
}

// probe asks the service of method for something that need not be there.
func (c *Conn) probe(ctx context.Context, method, prefix string) error {
	var reply wire.Encoded // of no interest
	switch {
	case strings.HasPrefix(method, snixPrefix+"castore.v1.BlobService/"):
		request := &castorev1.StatBlobRequest{Digest: castore.EmptyBlob[:]}
		return c.cc.Invoke(ctx, renamed(castorev1.BlobService_Stat_FullMethodName, prefix), request, &reply)
	case strings.HasPrefix(method, snixPrefix+"store.v1.PathInfoService/"):
		request := &storev1.GetPathInfoRequest{ByWhat: &storev1.GetPathInfoRequest_ByOutputHash{ByOutputHash: make([]byte, storepath.HashSize)}}
		return c.cc.Invoke(ctx, renamed(storev1.PathInfoService_Get_FullMethodName, prefix), request, &reply)
	case strings.HasPrefix(method, snixPrefix+"castore.v1.DirectoryService/"):
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		desc := &castorev1.DirectoryService_ServiceDesc.Streams[0] // Get
		s, err := c.cc.NewStream(ctx, desc, renamed(castorev1.DirectoryService_Get_FullMethodName, prefix))
		if err != nil {
			return err
		}
		request := &castorev1.GetDirectoryRequest{ByWhat: &castorev1.GetDirectoryRequest_Digest{Digest: castore.EmptyBlob[:]}}
		if err := s.SendMsg(request); err != nil {
			return s.RecvMsg(&reply) // which has the reason
		}
		if err := s.CloseSend(); err != nil {
			return err
		}
		return s.RecvMsg(&reply)
	}
	return fmt.Errorf("call %s: not a method of the store", method)
}
