package storecache

import (
	"context"
	"errors"
	"iter"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
)

// faultyInfos is a path info service with faults.
type faultyInfos struct {
	pathinfo.Service
	get  func(context.Context, storepath.Hash) (*pathinfo.PathInfo, error)
	put  func(context.Context, *pathinfo.PathInfo) (*pathinfo.PathInfo, error)
	list error
}

func (s *faultyInfos) Get(ctx context.Context, h storepath.Hash) (*pathinfo.PathInfo, error) {
	if s.get != nil {
		return s.get(ctx, h)
	}
	return s.Service.Get(ctx, h)
}

func (s *faultyInfos) Put(ctx context.Context, p *pathinfo.PathInfo) (*pathinfo.PathInfo, error) {
	if s.put != nil {
		return s.put(ctx, p)
	}
	return s.Service.Put(ctx, p)
}

func (s *faultyInfos) List(ctx context.Context) iter.Seq2[*pathinfo.PathInfo, error] {
	if s.list != nil {
		return func(yield func(*pathinfo.PathInfo, error) bool) { yield(nil, s.list) }
	}
	return s.Service.List(ctx)
}

func put(t *testing.T, s pathinfo.Service, list ...*pathinfo.PathInfo) {
	t.Helper()
	for _, p := range list {
		if _, err := s.Put(context.Background(), p); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPathInfoFill(t *testing.T) {
	ctx := context.Background()
	p := pathinfotest.Full("p")
	near, far := &faultyInfos{Service: pathinfo.NewMemory()}, &faultyInfos{Service: pathinfo.NewMemory()}
	put(t, far, p)
	s := NewPathInfos(near, far, nil)
	if _, err := s.Get(ctx, p.StorePath.Hash); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Get(ctx, p.StorePath.Hash); err != nil {
		t.Errorf("near lacks what was read: %v", err)
	}

	// What is put while far is asked is not replaced.
	q := pathinfotest.Full("q")
	put(t, far, q)
	far.get = func(ctx context.Context, h storepath.Hash) (*pathinfo.PathInfo, error) {
		put(t, s, pathinfotest.Bare("q"))
		return far.Service.Get(ctx, h)
	}
	if got, err := s.Get(ctx, q.StorePath.Hash); err != nil || len(got.Signatures) != 0 {
		t.Errorf("Get = %v, %v, want what was put", got, err)
	}
	far.get = nil

	// Near fails.
	r := pathinfotest.Full("r")
	put(t, far, r)
	near.put = func(context.Context, *pathinfo.PathInfo) (*pathinfo.PathInfo, error) { return nil, errBroken }
	if got, err := s.Get(ctx, r.StorePath.Hash); err != nil || got.StorePath != r.StorePath {
		t.Errorf("near takes nothing: %v, %v", got, err)
	}
	if _, err := s.Put(ctx, r); !errors.Is(err, errBroken) {
		t.Errorf("Put: %v", err)
	}
	near.get = func(context.Context, storepath.Hash) (*pathinfo.PathInfo, error) { return nil, errBroken }
	if got, err := s.Get(ctx, r.StorePath.Hash); err != nil || got.StorePath != r.StorePath {
		t.Errorf("near cannot be read: %v, %v", got, err)
	}
	if _, err := s.Get(ctx, storepath.Hash{1}); !errors.Is(err, errBroken) || errors.Is(err, pathinfo.ErrNotFound) {
		t.Errorf("what near may have is said to be missing: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestPathInfoList(t *testing.T) {
	names := func(s pathinfo.Service) (m map[string]int, err error) {
		m = map[string]int{}
		for p, err := range s.List(context.Background()) {
			if err != nil {
				return m, err
			}
			m[p.StorePath.Name] = len(p.Signatures)
		}
		return m, nil
	}
	near, far := &faultyInfos{Service: pathinfo.NewMemory()}, &faultyInfos{Service: pathinfo.NewMemory()}
	put(t, near, pathinfotest.Bare("near"), pathinfotest.Full("both"))
	put(t, far, pathinfotest.Bare("far"), pathinfotest.Bare("both"), pathinfotest.Bare("far2"))
	s := NewPathInfos(near, far, nil)
	defer s.Close()
	if got, err := names(s); err != nil || len(got) != 4 || got["both"] != 2 {
		t.Errorf("list %v, %v", got, err)
	}
	far.list = errors.ErrUnsupported
	if got, err := names(s); err != nil || len(got) != 2 {
		t.Errorf("list without far's: %v, %v", got, err)
	}
	far.list = errBroken
	if got, err := names(s); !errors.Is(err, errBroken) {
		t.Errorf("a part is listed as the whole: %v, %v", got, err)
	}
}
