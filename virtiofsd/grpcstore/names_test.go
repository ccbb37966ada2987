package grpcstore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/grpcstore"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/storev1"
)

// nothing is a store that holds nothing.
type (
	noBlobs struct {
		castorev1.UnimplementedBlobServiceServer
	}
	noDirectories struct {
		castorev1.UnimplementedDirectoryServiceServer
	}
	noPathInfos struct {
		storev1.UnimplementedPathInfoServiceServer
	}
)

var errNothing = status.Error(codes.NotFound, "nothing here")

func (noBlobs) Stat(context.Context, *castorev1.StatBlobRequest) (*castorev1.StatBlobResponse, error) {
	return nil, errNothing
}

func (noBlobs) Read(*castorev1.ReadBlobRequest, grpc.ServerStreamingServer[castorev1.BlobChunk]) error {
	return errNothing
}

func (noDirectories) Get(*castorev1.GetDirectoryRequest, grpc.ServerStreamingServer[castorev1.Directory]) error {
	return errNothing
}

func (noPathInfos) Get(context.Context, *storev1.GetPathInfoRequest) (*storev1.PathInfo, error) {
	return nil, errNothing
}

// serveName serves a store that holds nothing, under one name alone.
func serveName(t *testing.T, name string) (*grpc.Server, string) {
	t.Helper()
	l, address := listen(t)
	s := grpc.NewServer()
	register := func(desc grpc.ServiceDesc, handler any) {
		desc.ServiceName = strings.Replace(desc.ServiceName, "snix", name, 1)
		s.RegisterService(&desc, handler)
	}
	register(castorev1.BlobService_ServiceDesc, noBlobs{})
	register(castorev1.DirectoryService_ServiceDesc, noDirectories{})
	register(storev1.PathInfoService_ServiceDesc, noPathInfos{})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return s, address
}

// calls are calls of each service, unary and not, that find nothing.
var calls = map[string]func(context.Context, *grpcstore.Conn) error{
	"has": func(ctx context.Context, c *grpcstore.Conn) error {
		has, err := c.Blobs().Has(ctx, castore.Digest{1})
		if err == nil && !has {
			err = castore.ErrNotFound
		}
		return err
	},
	"open": func(ctx context.Context, c *grpcstore.Conn) error {
		_, err := c.Blobs().Open(ctx, castore.Digest{1})
		return err
	},
	"directory": func(ctx context.Context, c *grpcstore.Conn) error {
		_, err := c.Directories().Get(ctx, castore.Digest{1})
		return err
	},
	"path info": func(ctx context.Context, c *grpcstore.Conn) error {
		_, err := c.PathInfos().Get(ctx, storepath.Hash{1})
		return err
	},
}

func isNotFound(err error) bool {
	return errors.Is(err, castore.ErrNotFound) || errors.Is(err, pathinfo.ErrNotFound)
}

// TestName holds that the name a server speaks is found out by whichever call
// comes first, and remembered.
func TestName(t *testing.T) {
	for _, name := range []string{"snix", "tvix"} {
		for first, call := range calls {
			_, address := serveName(t, name)
			c := dial(t, address, grpcstore.Options{})
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					if err := call(t.Context(), c); !isNotFound(err) {
						t.Errorf("%s, %s: %v", name, first, err)
					}
				})
			}
			wg.Wait()
			if got := c.Name(); got != name {
				t.Errorf("%s, %s: the name is %q", name, first, got)
			}
			for then, call := range calls {
				if err := call(t.Context(), c); !isNotFound(err) {
					t.Errorf("%s, %s then %s: %v", name, first, then, err)
				}
			}
		}
	}
}

func TestNameUnknown(t *testing.T) {
	_, address := serveName(t, "other")
	c := dial(t, address, grpcstore.Options{})
	for name, call := range calls {
		wantError(t, name, call(t.Context(), c), "is it a store daemon?", "neither snix")
	}
	// A server of blobs and directories alone.
	w := memory()
	w.pathInfos = nil
	c = dial(t, serve(t, w, grpcserver.Options{}), grpcstore.Options{})
	if err := calls["has"](t.Context(), c); !isNotFound(err) {
		t.Errorf("has: %v", err)
	}
	wantError(t, "path info", calls["path info"](t.Context(), c), "PathInfoService")
	if err := calls["has"](t.Context(), c); !isNotFound(err) {
		t.Errorf("has: %v", err)
	}
}

// TestNameChanges has another server come up at the address.
func TestNameChanges(t *testing.T) {
	_, address := serveName(t, "tvix")
	c := dial(t, address, grpcstore.Options{})
	c.SetName("snix") // as if a server of snix had been there
	if err := calls["has"](t.Context(), c); err == nil {
		t.Error("a server of the other name answers")
	}
	if err := calls["has"](t.Context(), c); !isNotFound(err) || c.Name() != "tvix" {
		t.Errorf("the next call: %v, name %q", err, c.Name())
	}
}

// TestNameCanceled holds that who waits for the name can give up.
func TestNameCanceled(t *testing.T) {
	l, address := listen(t) // accepts and says nothing
	defer l.Close()
	c := dial(t, address, grpcstore.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for name, call := range calls {
		wg.Go(func() {
			if err := call(ctx, c); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	cancel()
	wg.Wait()
	c = dial(t, address, impatient)
	for name, call := range calls {
		err := call(t.Context(), c)
		wantError(t, name, err, address, "200ms")
	}
}
