package grpcserver_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/proto/castorev1"
)

// dirs are directories of spec/store.md 8.
func dirs(t testing.TB) (a, b, c, d *castore.Directory) {
	a = castoretest.NewDirectory(t)
	b = castoretest.NewDirectory(t, castoretest.Sub("a", a))
	c = castoretest.NewDirectory(t, castoretest.Sub("a", a), castoretest.Sub("a'", a))
	d = castoretest.NewDirectory(t, castoretest.Sub("a", a), castoretest.Sub("b", b))
	return a, b, c, d
}

func message(t testing.TB, d *castore.Directory) *castorev1.Directory {
	t.Helper()
	m := &castorev1.Directory{}
	if err := proto.Unmarshal(d.Encoded(), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func putDirectories(ctx context.Context, c grpc.ClientConnInterface, list ...*castorev1.Directory) ([]byte, error) {
	s, err := castorev1.NewDirectoryServiceClient(c).Put(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		if err := s.Send(m); err != nil {
			break // the server has answered
		}
	}
	reply, err := s.CloseAndRecv()
	return reply.GetRootDigest(), err
}

func TestDirectories(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{})
	eachName(t, w, func(t *testing.T, c grpc.ClientConnInterface) {
		ctx := t.Context()
		rpc := castorev1.NewDirectoryServiceClient(c)
		da, db, dc, dd := dirs(t)
		A, B, C, D := message(t, da), message(t, db), message(t, dc), message(t, dd)
		wrongSize := proto.Clone(B).(*castorev1.Directory)
		wrongSize.Directories[0].Size = 7
		unsorted := proto.Clone(D).(*castorev1.Directory)
		slices.Reverse(unsorted.Directories)
		unknownField := proto.Clone(A).(*castorev1.Directory)
		unknownField.ProtoReflect().SetUnknown([]byte{0x78, 1})
		for _, tt := range []struct {
			name string
			list []*castorev1.Directory
			root *castore.Directory // nil: refused, INTERNAL
			text string
		}{
			{"A", []*castorev1.Directory{A}, da, ""},
			{"A B", []*castorev1.Directory{A, B}, db, ""},
			{"A A C", []*castorev1.Directory{A, A, C}, dc, ""},
			{"A B D", []*castorev1.Directory{A, B, D}, dd, ""},
			{"nothing", nil, nil, "nothing"},
			{"two roots", []*castorev1.Directory{A, C, B}, nil, "2 roots"},
			{"dangling", []*castorev1.Directory{B}, nil, `"a"`},
			{"root not last", []*castorev1.Directory{A, B, A}, nil, "not the root"},
			{"wrong size", []*castorev1.Directory{A, wrongSize}, nil, "the size"},
			{"unsorted", []*castorev1.Directory{A, B, unsorted}, nil, "canonical"},
			{"unknown field", []*castorev1.Directory{unknownField}, nil, "field 15"},
			{"bad name", []*castorev1.Directory{{Symlinks: []*castorev1.SymlinkEntry{{Name: []byte(".."), Target: []byte("x")}}}}, nil, `".."`},
		} {
			root, err := putDirectories(ctx, c, tt.list...)
			if tt.root == nil {
				wantCode(t, tt.name, err, codes.Internal, tt.text)
				continue
			}
			if want := tt.root.Digest(); err != nil || !bytes.Equal(root, want[:]) {
				t.Errorf("%s: root %x, %v", tt.name, root, err)
			}
		}
		get := func(d []byte, recursive bool) ([]*castorev1.Directory, error) {
			return all(rpc.Get(ctx, &castorev1.GetDirectoryRequest{ByWhat: &castorev1.GetDirectoryRequest_Digest{Digest: d}, Recursive: recursive}))
		}
		root := dd.Digest()
		if got, err := get(root[:], false); err != nil || len(got) != 1 || !proto.Equal(got[0], D) {
			t.Errorf("Get = %v, %v", got, err)
		}
		got, err := get(root[:], true)
		if err != nil || len(got) != 3 || !proto.Equal(got[0], D) {
			t.Errorf("recursive Get = %v, %v", got, err)
		}
		unknown := make([]byte, 32)
		if got, err := get(unknown, true); err != nil || len(got) != 0 {
			t.Errorf("recursive Get of an unknown directory = %v, %v, want nothing", got, err)
		}
		_, err = get(unknown, false)
		wantCode(t, "unknown", err, codes.NotFound, "blake3-")
		_, err = get(unknown[1:], false)
		wantCode(t, "31 bytes", err, codes.InvalidArgument, "digest length")
		_, err = all(rpc.Get(ctx, &castorev1.GetDirectoryRequest{}))
		wantCode(t, "nothing named", err, codes.InvalidArgument, "names no directory")
	})
}

// holed is a table of one directory that cannot store.
type holed struct{ root *castore.Directory }

func (h holed) Get(_ context.Context, d castore.Digest) ([]byte, error) {
	if d != h.root.Digest() {
		return nil, castore.ErrNotFound
	}
	return h.root.Encoded(), nil
}

func (h holed) Put(context.Context, []castore.DirectoryRow) error { return errors.New("disk full") }
func (h holed) Close() error                                      { return nil }

func TestDirectoriesBroken(t *testing.T) {
	w := newWorld(t)
	a, b, _, d := dirs(t)
	w.directories = castore.NewDirectoryService(holed{d})
	w.start(t, grpcserver.Options{})
	root := d.Digest()
	got, err := all(castorev1.NewDirectoryServiceClient(w.conn).Get(t.Context(), &castorev1.GetDirectoryRequest{ByWhat: &castorev1.GetDirectoryRequest_Digest{Digest: root[:]}, Recursive: true}))
	wantCode(t, "a tree with a hole", err, codes.Internal, b.Digest().String())
	if len(got) == 0 {
		t.Error("what was there before the hole did not come")
	}
	_, err = putDirectories(t.Context(), w.conn, message(t, a))
	wantCode(t, "a store that cannot store", err, codes.DataLoss, "disk full")
	_, err = putDirectories(t.Context(), w.conn, message(t, b))
	wantCode(t, "a broken tree", err, codes.Internal, `"a"`)
}
