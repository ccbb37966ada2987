package grpcserver

import (
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/wire"
)

type directoryServer struct {
	castorev1.UnimplementedDirectoryServiceServer
	*Server
}

// Get sends a directory, or all of a tree. A tree that is not there is no
// directories at all; one with a hole ends with an error.
func (s *directoryServer) Get(r *castorev1.GetDirectoryRequest, stream grpc.ServerStreamingServer[castorev1.Directory]) error {
	by, ok := r.ByWhat.(*castorev1.GetDirectoryRequest_Digest)
	if !ok {
		return status.Error(codes.InvalidArgument, "the request names no directory")
	}
	d, err := digest(by.Digest)
	if err != nil {
		return err
	}
	ctx := stream.Context()
	if !r.Recursive {
		dir, err := s.directories.Get(ctx, d)
		switch {
		case errors.Is(err, castore.ErrNotFound):
			return status.Errorf(codes.NotFound, "directory %s not found", d)
		case err != nil:
			return s.failure(ctx, codes.Internal, err)
		}
		return sendDirectory(stream, dir)
	}
	sent := false
	for dir, err := range s.directories.Closure(ctx, d) {
		if err != nil {
			if errors.Is(err, castore.ErrNotFound) && !sent {
				return nil
			}
			return s.failure(ctx, codes.Internal, err)
		}
		if err := sendDirectory(stream, dir); err != nil {
			return err
		}
		sent = true
	}
	return nil
}

func sendDirectory(stream grpc.ServerStream, dir *castore.Directory) error {
	b := wire.Encoded(dir.Encoded())
	return stream.SendMsg(&b)
}

// Put stores a tree. What breaks the rules of an upload is INTERNAL, as in tvix
// and snix; what the store cannot hold is DATA_LOSS.
func (s *directoryServer) Put(stream grpc.ClientStreamingServer[castorev1.Directory, castorev1.PutDirectoryResponse]) error {
	ctx := stream.Context()
	p, err := s.directories.Put(ctx)
	if err != nil {
		return s.failure(ctx, codes.DataLoss, err)
	}
	defer p.Abort()
	tree := treeCheck{referred: map[castore.Digest]bool{}}
	held := &upload{server: s.Server, begun: time.Now()}
	defer held.release()
	for {
		var b wire.Encoded
		err := stream.RecvMsg(&b)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := held.checkTime(); err != nil {
			return err
		}
		dir, err := castore.ParseDirectory(b)
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		if !tree.has(dir) { // a repeat takes no memory
			if err := held.add(len(b)); err != nil {
				return err
			}
		}
		tree.add(dir)
		if _, err := p.Put(dir); err != nil {
			return status.Error(codes.Internal, err.Error())
		}
	}
	complete := tree.complete()
	if complete {
		if err := s.blobs.Flush(ctx); err != nil {
			return s.failure(ctx, codes.DataLoss, err)
		}
	}
	root, err := p.Close()
	switch {
	case err != nil && !complete:
		return status.Error(codes.Internal, err.Error())
	case err != nil:
		return s.failure(ctx, codes.DataLoss, err)
	}
	return stream.SendAndClose(&castorev1.PutDirectoryResponse{RootDigest: root[:]})
}

// treeCheck tells an upload that is not one tree from a store that fails: a
// [castore.DirectoryPutter] has one error for both.
type treeCheck struct {
	referred map[castore.Digest]bool // of those that came, whether one refers to it
	orphans  int
	last     castore.Digest
}

func (t *treeCheck) has(d *castore.Directory) bool {
	_, ok := t.referred[d.Digest()]
	return ok
}

func (t *treeCheck) add(d *castore.Directory) {
	t.last = d.Digest()
	if t.has(d) {
		return
	}
	for _, e := range d.Entries() {
		if referred, ok := t.referred[e.Digest]; ok && !referred && e.Kind == castore.KindDirectory {
			t.referred[e.Digest] = true
			t.orphans--
		}
	}
	t.referred[d.Digest()] = false
	t.orphans++
}

// complete says whether what came is one tree, its root last.
func (t *treeCheck) complete() bool {
	return t.orphans == 1 && !t.referred[t.last]
}
