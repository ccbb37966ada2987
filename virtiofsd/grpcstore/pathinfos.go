package grpcstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/proto/storev1"
	"storeboot/virtiofsd/proto/wire"
)

// maxUnordered is how much of a list in no order is collected, in bytes.
const maxUnordered = 1 << 30

// pathInfos is the path info service. It takes messages as they come, so that
// they are checked as such.
type pathInfos struct {
	conn   *Conn
	closer func() error
}

// Get implements [pathinfo.Service].
func (s *pathInfos) Get(ctx context.Context, hash storepath.Hash) (*pathinfo.PathInfo, error) {
	request := &storev1.GetPathInfoRequest{ByWhat: &storev1.GetPathInfoRequest_ByOutputHash{ByOutputHash: hash[:]}}
	p, err := s.call(ctx, storev1.PathInfoService_Get_FullMethodName, request)
	if status.Code(err) == codes.NotFound {
		return nil, fmt.Errorf("get path info %s: %w", hash, pathinfo.ErrNotFound)
	}
	if err == nil && p.StorePath.Hash != hash {
		err = fmt.Errorf("it sent the path info of %s instead", p.StorePath)
	}
	if err != nil {
		return nil, s.conn.failed(ctx, fmt.Sprintf("get path info %s", hash), err)
	}
	return p, nil
}

// Put implements [pathinfo.Service].
func (s *pathInfos) Put(ctx context.Context, p *pathinfo.PathInfo) (*pathinfo.PathInfo, error) {
	b, err := p.Encode()
	if err != nil {
		return nil, fmt.Errorf("put path info: %w", err)
	}
	request := wire.Encoded(b)
	stored, err := s.call(ctx, storev1.PathInfoService_Put_FullMethodName, &request)
	if err == nil && stored.StorePath != p.StorePath {
		err = fmt.Errorf("it stored the path info of %s instead", stored.StorePath)
	}
	if err != nil {
		return nil, s.conn.failed(ctx, fmt.Sprintf("put path info of %s", p.StorePath), err)
	}
	return stored, nil
}

// call makes a call that is answered with a path info.
func (s *pathInfos) call(ctx context.Context, method string, request any) (*pathinfo.PathInfo, error) {
	var reply wire.Encoded
	if err := s.conn.Invoke(ctx, method, request, &reply); err != nil {
		return nil, err
	}
	return pathinfo.Parse(reply)
}

// List implements [pathinfo.Service]. A server that does not say that its list
// is in order has it collected and sorted here.
func (s *pathInfos) List(ctx context.Context) iter.Seq2[*pathinfo.PathInfo, error] {
	return func(yield func(*pathinfo.PathInfo, error) bool) {
		if err := s.list(ctx, yield); err != nil {
			yield(nil, s.conn.failed(ctx, "list path infos", err))
		}
	}
}

func (s *pathInfos) list(ctx context.Context, yield func(*pathinfo.PathInfo, error) bool) error {
	st, err := newStream(ctx, s.conn, func(ctx context.Context) (grpc.ClientStream, error) {
		return storev1.NewPathInfoServiceClient(s.conn).List(ctx, &storev1.ListPathInfoRequest{})
	})
	if err != nil {
		return err
	}
	defer st.end()
	var collected []row
	size := 0
	ordered := false
	var last storepath.Hash
	for n := 0; ; n++ {
		var b wire.Encoded
		err := st.recv(&b)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if n == 0 {
			ordered = slices.Equal(st.header().Get(wire.ListOrderKey), []string{wire.ListOrderHash})
		}
		p, err := pathinfo.Parse(b)
		if err != nil {
			return err
		}
		if !ordered {
			if size += len(b) + 64; size > maxUnordered {
				return fmt.Errorf("its list is in no order and longer than the %d bytes that can be sorted here", maxUnordered)
			}
			collected = append(collected, row{p.StorePath.Hash, b})
			continue
		}
		if n > 0 && bytes.Compare(last[:], p.StorePath.Hash[:]) >= 0 {
			return errors.New("its list is not in the order that it announced")
		}
		last = p.StorePath.Hash
		if !yield(p, nil) {
			return nil
		}
	}
	slices.SortFunc(collected, func(a, b row) int { return bytes.Compare(a.hash[:], b.hash[:]) })
	for i, r := range collected {
		if i > 0 && collected[i-1].hash == r.hash {
			return fmt.Errorf("it listed %s twice", r.hash)
		}
		p, err := pathinfo.Parse(r.encoded)
		if err != nil {
			return err
		}
		if !yield(p, nil) {
			return nil
		}
	}
	return nil
}

// row is a path info that was collected.
type row struct {
	hash    storepath.Hash
	encoded []byte
}

// Close implements [pathinfo.Service].
func (s *pathInfos) Close() error { return s.closer() }
