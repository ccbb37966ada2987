package pathinfotest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

// TestService tests the services that open makes. Each call gets an empty one,
// which the suite closes.
func TestService(t *testing.T, open func(*testing.T) pathinfo.Service) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, pathinfo.Service)
	}{
		{"RoundTrip", testRoundTrip},
		{"Replace", testReplace},
		{"Refused", testRefused},
		{"List", testList},
		{"Concurrent", testConcurrent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			tt.test(t, s)
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// Path is a store path that differs from that of another name.
func Path(name string) storepath.StorePath {
	sum := sha256.Sum256([]byte(name))
	return storepath.StorePath{Hash: storepath.Hash(sum[:storepath.HashSize]), Name: name}
}

// Full is a path info in which everything is set.
func Full(name string) *pathinfo.PathInfo {
	deriver := Path("deriver-" + name)
	return &pathinfo.PathInfo{
		StorePath:  Path(name),
		Node:       castore.Node{Kind: castore.KindFile, Digest: castore.EmptyBlob, Size: 1 << 40, Executable: true},
		References: []storepath.StorePath{Path("z"), Path(name), Path("a"), Path("z")},
		NarSize:    1<<40 + 160,
		NarSHA256:  sha256.Sum256([]byte(name)),
		Signatures: []pathinfo.Signature{{Name: "cache.example-1", Data: [64]byte{1}}, {Name: "other_key", Data: [64]byte{2}}},
		Deriver:    &deriver,
		CA:         &pathinfo.CA{Type: pathinfo.CAFlatMD5, Digest: make([]byte, 16)},
	}
}

// Bare is a path info in which only that is set which has to be.
func Bare(name string) *pathinfo.PathInfo {
	return &pathinfo.PathInfo{StorePath: Path(name), Node: castore.Node{Kind: castore.KindSymlink, Target: "/"}}
}

func testRoundTrip(t *testing.T, s pathinfo.Service) {
	ctx := context.Background()
	for _, p := range []*pathinfo.PathInfo{Full("full"), Bare("bare")} {
		if got, err := s.Get(ctx, p.StorePath.Hash); !errors.Is(err, pathinfo.ErrNotFound) {
			t.Errorf("Get before Put = %v, %v, want ErrNotFound", got, err)
		}
		got, err := s.Put(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, p) {
			t.Errorf("Put returns %+v, want %+v", got, p)
		}
		for range 2 {
			got, err = s.Get(ctx, p.StorePath.Hash)
			if err != nil || !reflect.DeepEqual(got, p) {
				t.Errorf("Get = %+v, %v, want %+v", got, err, p)
			}
		}
	}
	// What was stored does not change with what was put.
	p := Full("mine")
	if _, err := s.Put(ctx, p); err != nil {
		t.Fatal(err)
	}
	p.References[0] = Path("changed")
	p.CA.Digest[0] = 99
	if got, err := s.Get(ctx, p.StorePath.Hash); err != nil || !reflect.DeepEqual(got, Full("mine")) {
		t.Errorf("Get = %+v, %v", got, err)
	}
}

func testReplace(t *testing.T, s pathinfo.Service) {
	ctx := context.Background()
	for _, p := range []*pathinfo.PathInfo{Bare("p"), Full("p"), Full("p"), Bare("p")} {
		if _, err := s.Put(ctx, p); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Get(ctx, p.StorePath.Hash); err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("Get = %+v, %v, want %+v", got, err, p)
		}
	}
}

func testRefused(t *testing.T, s pathinfo.Service) {
	p := Full("x")
	p.CA.Digest = p.CA.Digest[1:]
	if _, err := s.Put(context.Background(), p); err == nil {
		t.Error("Put of a path info with a wrong hash succeeds")
	}
	if _, err := s.Get(context.Background(), p.StorePath.Hash); !errors.Is(err, pathinfo.ErrNotFound) {
		t.Errorf("Get = %v after a refused Put", err)
	}
}

func testList(t *testing.T, s pathinfo.Service) {
	ctx := context.Background()
	for p, err := range s.List(ctx) {
		t.Fatalf("an empty service lists %v, %v", p, err)
	}
	const n = 50
	for i := range n {
		if _, err := s.Put(ctx, Bare(fmt.Sprint("p", i))); err != nil {
			t.Fatal(err)
		}
	}
	var last *pathinfo.PathInfo
	count := 0
	for p, err := range s.List(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if last != nil && bytes.Compare(last.StorePath.Hash[:], p.StorePath.Hash[:]) >= 0 {
			t.Errorf("%s is listed before %s", last.StorePath, p.StorePath)
		}
		// The service can be used meanwhile.
		if got, err := s.Get(ctx, p.StorePath.Hash); err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("Get = %v, %v", got, err)
		}
		if _, err := s.Put(ctx, p); err != nil {
			t.Errorf("Put while listing: %v", err)
		}
		last = p
		count++
	}
	if count != n {
		t.Errorf("%d path infos listed, want %d", count, n)
	}
	for range s.List(ctx) {
		break // the caller may stop early
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	for p, err := range s.List(canceled) {
		if err == nil {
			t.Errorf("a canceled List yields %v", p)
		}
	}
}

func testConcurrent(t *testing.T, s pathinfo.Service) {
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 20 {
				p := Full(fmt.Sprint("p", i%7))
				if _, err := s.Put(context.Background(), p); err != nil {
					t.Errorf("worker %d: %v", w, err)
				}
				if got, err := s.Get(context.Background(), p.StorePath.Hash); err != nil || !reflect.DeepEqual(got, p) {
					t.Errorf("worker %d: Get = %+v, %v", w, got, err)
				}
			}
		})
	}
	wg.Wait()
}
