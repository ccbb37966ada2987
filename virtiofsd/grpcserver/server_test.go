package grpcserver_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/storev1"
)

// world is a store, a server of it and a plain client, which knows nothing of
// our codec.
type world struct {
	blobs       castore.BlobService
	directories castore.DirectoryService
	pathInfos   pathinfo.Service
	conn        *grpc.ClientConn
}

func newWorld(t testing.TB) *world {
	return &world{blobs: castore.NewMemoryBlobs(), directories: castore.NewMemoryDirectories(), pathInfos: pathinfo.NewMemory()}
}

func (w *world) start(t testing.TB, o grpcserver.Options) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpcserver.New(w.blobs, w.directories, w.pathInfos, o)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	w.conn, err = grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.conn.Close()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return w
}

// tvix is a connection on which the methods of snix are called by tvix's names.
type tvix struct{ *grpc.ClientConn }

func (c tvix) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return c.ClientConn.Invoke(ctx, strings.Replace(method, "/snix.", "/tvix.", 1), args, reply, opts...)
}

func (c tvix) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.ClientConn.NewStream(ctx, desc, strings.Replace(method, "/snix.", "/tvix.", 1), opts...)
}

// eachName runs a test under both names.
func eachName(t *testing.T, w *world, test func(*testing.T, grpc.ClientConnInterface)) {
	t.Run("snix", func(t *testing.T) { test(t, w.conn) })
	t.Run("tvix", func(t *testing.T) { test(t, tvix{w.conn}) })
}

func wantCode(t *testing.T, what string, err error, want codes.Code, text string) {
	t.Helper()
	if status.Code(err) != want || !strings.Contains(status.Convert(err).Message(), text) {
		t.Errorf("%s: %v, want %v with %q", what, err, want, text)
	}
}

// all receives to the end.
func all[T any](s grpc.ServerStreamingClient[T], err error) ([]*T, error) {
	var list []*T
	for err == nil {
		var m *T
		if m, err = s.Recv(); err == nil {
			list = append(list, m)
		}
	}
	if err == io.EOF {
		err = nil
	}
	return list, err
}

func TestBlobs(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{})
	eachName(t, w, func(t *testing.T, c grpc.ClientConnInterface) {
		ctx := t.Context()
		rpc := castorev1.NewBlobServiceClient(c)
		for _, size := range []int{0, 1, 256 << 10, 1<<20 + 3} {
			want := castoretest.Pattern(size, uint64(size))
			s, err := rpc.Put(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for part := range slices.Chunk(want, 8<<10) { // as upstream
				if err := s.Send(&castorev1.BlobChunk{Data: part}); err != nil {
					t.Fatal(err)
				}
			}
			reply, err := s.CloseAndRecv()
			if err != nil {
				t.Fatal(err)
			}
			stat, err := rpc.Stat(ctx, &castorev1.StatBlobRequest{Digest: reply.Digest, SendChunks: true})
			if err != nil || len(stat.Chunks) != 0 {
				t.Errorf("Stat = %v, %v", stat, err)
			}
			chunks, err := all(rpc.Read(ctx, &castorev1.ReadBlobRequest{Digest: reply.Digest}))
			var got []byte
			for _, m := range chunks {
				got = append(got, m.Data...)
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("read %d bytes of %d, %v", len(got), size, err)
			}
		}
		unknown := make([]byte, 32)
		_, err := rpc.Stat(ctx, &castorev1.StatBlobRequest{Digest: unknown})
		wantCode(t, "Stat of an unknown blob", err, codes.NotFound, "blake3-")
		_, err = rpc.Stat(ctx, &castorev1.StatBlobRequest{Digest: unknown[1:]})
		wantCode(t, "Stat of 31 bytes", err, codes.InvalidArgument, "invalid digest length")
		_, err = all(rpc.Read(ctx, &castorev1.ReadBlobRequest{Digest: unknown}))
		wantCode(t, "Read of an unknown blob", err, codes.NotFound, "blake3-")
		_, err = all(rpc.Read(ctx, &castorev1.ReadBlobRequest{}))
		wantCode(t, "Read of nothing", err, codes.InvalidArgument, "digest length")
	})
}

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
			{"wrong size", []*castorev1.Directory{A, wrongSize}, nil, "descendants"},
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

func TestUploadMemory(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{UploadMemory: 1000})
	a, b, _, d := dirs(t)
	_, err := putDirectories(t.Context(), w.conn, message(t, a), message(t, b), message(t, d))
	wantCode(t, "a large tree", err, codes.ResourceExhausted, "1000 bytes")
	for range 3 { // what was taken is given back
		if _, err := putDirectories(t.Context(), w.conn, message(t, a)); err != nil {
			t.Errorf("a small tree: %v", err)
		}
	}
}

func TestPathInfos(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{})
	eachName(t, w, func(t *testing.T, c grpc.ClientConnInterface) {
		ctx := t.Context()
		rpc := storev1.NewPathInfoServiceClient(c)
		get := func(hash []byte) (*storev1.PathInfo, error) {
			return rpc.Get(ctx, &storev1.GetPathInfoRequest{ByWhat: &storev1.GetPathInfoRequest_ByOutputHash{ByOutputHash: hash}})
		}
		for _, p := range []*pathinfo.PathInfo{pathinfotest.Full("full"), pathinfotest.Bare("bare")} {
			b, err := p.Encode()
			if err != nil {
				t.Fatal(err)
			}
			m := &storev1.PathInfo{}
			if err := proto.Unmarshal(b, m); err != nil {
				t.Fatal(err)
			}
			if stored, err := rpc.Put(ctx, m); err != nil || !proto.Equal(stored, m) {
				t.Errorf("Put = %v, %v", stored, err)
			}
			if got, err := get(p.StorePath.Hash[:]); err != nil || !proto.Equal(got, m) {
				t.Errorf("Get = %v, %v", got, err)
			}
			m.References = append(m.References, make([]byte, 20))
			_, err = rpc.Put(ctx, m)
			wantCode(t, "Put of a reference without name", err, codes.InvalidArgument, "Invalid path info: ")
		}
		if list, err := all(rpc.List(ctx, &storev1.ListPathInfoRequest{})); err != nil || len(list) != 2 {
			t.Errorf("List = %v, %v", list, err)
		}
		_, err := get(make([]byte, 20))
		wantCode(t, "unknown", err, codes.NotFound, "00000000000000000000000000000000")
		_, err = get(make([]byte, 19))
		wantCode(t, "19 bytes", err, codes.InvalidArgument, "19 bytes")
		_, err = rpc.Get(ctx, &storev1.GetPathInfoRequest{})
		wantCode(t, "nothing named", err, codes.Unimplemented, "output hash")
	})
}

func TestNoPathInfos(t *testing.T) {
	w := newWorld(t)
	w.pathInfos = nil
	w.start(t, grpcserver.Options{})
	_, err := all(storev1.NewPathInfoServiceClient(w.conn).List(t.Context(), &storev1.ListPathInfoRequest{}))
	wantCode(t, "List", err, codes.Unimplemented, "PathInfoService")
}

// TestCalculateNAR has the NARs of spec/store.md 8.
func TestCalculateNAR(t *testing.T) {
	w := newWorld(t)
	hello := castoretest.PutBlob(t, w.blobs, []byte("Hello World!"))
	keep := castoretest.NewDirectory(t, castore.Entry{Name: ".keep", Node: castore.Node{Kind: castore.KindFile, Digest: castore.EmptyBlob}})
	complicated := castoretest.NewDirectory(t,
		castoretest.Sub("keep", keep),
		castore.Entry{Name: ".keep", Node: castore.Node{Kind: castore.KindFile, Digest: castore.EmptyBlob}},
		castore.Entry{Name: "aa", Node: castore.Node{Kind: castore.KindSymlink, Target: "/nix/store/somewhereelse"}})
	if _, err := castoretest.PutDirectories(w.directories, keep, complicated); err != nil {
		t.Fatal(err)
	}
	w.start(t, grpcserver.Options{})
	eachName(t, w, func(t *testing.T, c grpc.ClientConnInterface) {
		rpc := storev1.NewPathInfoServiceClient(c)
		for _, tt := range []struct {
			name   string
			node   castore.Node
			size   uint64
			sha256 string
		}{
			{"symlink", castore.Node{Kind: castore.KindSymlink, Target: "/nix/store/somewhereelse"}, 136, "097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1"},
			{"file", castore.Node{Kind: castore.KindFile, Digest: hello, Size: 12}, 128, "03e7f63be30b065d78bcf615f5473545fdb4eb69aa416f43495b4e05cdfb8040"},
			{"executable", castore.Node{Kind: castore.KindFile, Digest: hello, Size: 12, Executable: true}, 160, "3b63b97bae149b3e6650437b9077c3d75b130192145792ec94ea3af96a8c567a"},
			{"complicated", complicated.Node(), 840, "ebd52279a8df024c9fd5718de4103bf5e760dc7f2cf49044ee7dea87ab16911a"},
		} {
			m := &castorev1.Entry{}
			if err := proto.Unmarshal(castore.AppendEntry(nil, castore.Entry{Node: tt.node}), m); err != nil {
				t.Fatal(err)
			}
			r, err := rpc.CalculateNAR(t.Context(), m)
			if err != nil || r.NarSize != tt.size || hex.EncodeToString(r.NarSha256) != tt.sha256 {
				t.Errorf("%s: %d bytes, %x, %v", tt.name, r.GetNarSize(), r.GetNarSha256(), err)
			}
		}
		file := func(name string, d []byte, size uint64) *castorev1.Entry {
			return &castorev1.Entry{Entry: &castorev1.Entry_File{File: &castorev1.FileEntry{Name: []byte(name), Digest: d, Size: size}}}
		}
		directory := func(d castore.Digest, size uint64) *castorev1.Entry {
			return &castorev1.Entry{Entry: &castorev1.Entry_Directory{Directory: &castorev1.DirectoryEntry{Digest: d[:], Size: size}}}
		}
		for _, tt := range []struct {
			name string
			m    *castorev1.Entry
			code codes.Code
			text string
		}{
			{"nothing", &castorev1.Entry{}, codes.InvalidArgument, "entry"},
			{"with a name", file("x", hello[:], 12), codes.InvalidArgument, "no name"},
			{"bad digest", file("", hello[1:], 12), codes.InvalidArgument, "31 bytes"},
			{"wrong size", file("", hello[:], 13), codes.DataLoss, "12 bytes and not 13"},
			{"missing blob", file("", make([]byte, 32), 1), codes.DataLoss, "not in the store"},
			{"missing directory", directory(castore.Digest{1}, 1), codes.DataLoss, "not in the store"},
			{"directory of another size", directory(complicated.Digest(), 5), codes.DataLoss, "4 descendants"},
			{"endless", directory(castore.Digest{1}, 1<<60), codes.InvalidArgument, "entries"},
		} {
			_, err := rpc.CalculateNAR(t.Context(), tt.m)
			wantCode(t, tt.name, err, tt.code, tt.text)
		}
	})
}

func TestHealth(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{})
	rpc := healthv1.NewHealthClient(w.conn)
	if r, err := rpc.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil || r.Status != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("Check = %v, %v", r, err)
	}
	_, err := rpc.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "snix.castore.v1.BlobService"})
	wantCode(t, "Check of a service", err, codes.NotFound, "")
}

func TestReflection(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{})
	want := []string{
		"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
		"snix.castore.v1.BlobService", "snix.castore.v1.DirectoryService", "snix.store.v1.PathInfoService",
		"tvix.castore.v1.BlobService", "tvix.castore.v1.DirectoryService", "tvix.store.v1.PathInfoService",
	}
	s, err := reflectionv1.NewServerReflectionClient(w.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r *reflectionv1.ServerReflectionRequest) *reflectionv1.ServerReflectionResponse {
		t.Helper()
		if err := s.Send(r); err != nil {
			t.Fatal(err)
		}
		reply, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	var got []string
	for _, x := range ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}).GetListServicesResponse().GetService() {
		got = append(got, x.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("services %q, want %q", got, want)
	}
	for _, symbol := range []string{"snix.store.v1.PathInfoService", "tvix.store.v1.PathInfoService", "snix.castore.v1.Entry", "tvix.castore.v1.Node", "tvix.castore.v1.BlobService.Stat"} {
		r := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}})
		if len(r.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
			t.Errorf("%s is in no file: %v", symbol, r.GetErrorResponse())
		}
	}
	alpha, err := reflectionv1alpha.NewServerReflectionClient(w.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := alpha.Send(&reflectionv1alpha.ServerReflectionRequest{MessageRequest: &reflectionv1alpha.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	if r, err := alpha.Recv(); err != nil || len(r.GetListServicesResponse().GetService()) != len(want) {
		t.Errorf("v1alpha: %v, %v", r, err)
	}
}

func TestToken(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{Token: "secret"})
	rpc := castorev1.NewBlobServiceClient(w.conn)
	stat := func(header ...string) error {
		_, err := rpc.Stat(metadata.AppendToOutgoingContext(t.Context(), header...), &castorev1.StatBlobRequest{Digest: castore.EmptyBlob[:]})
		return err
	}
	for _, header := range [][]string{nil, {"authorization", "Bearer"}, {"authorization", "Bearer secre"}, {"authorization", "Basic secret"}, {"authorization", "Bearer x", "authorization", "Bearer secret"}} {
		wantCode(t, strings.Join(header, " "), stat(header...), codes.Unauthenticated, "token")
	}
	for _, header := range []string{"Bearer secret", "bearer secret"} {
		if err := stat("authorization", header); err != nil {
			t.Errorf("%s: %v", header, err)
		}
	}
	s, err := rpc.Put(t.Context())
	if err == nil {
		_, err = s.CloseAndRecv()
	}
	wantCode(t, "stream without token", err, codes.Unauthenticated, "token")
	if _, err := healthv1.NewHealthClient(w.conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Errorf("health without token: %v", err)
	}
}

// closing is a blob service that says when a blob of its is closed.
type closing struct {
	castore.BlobService
	closed chan struct{}
}

func (c closing) Open(ctx context.Context, d castore.Digest) (castore.Blob, error) {
	b, err := c.BlobService.Open(ctx, d)
	return closingBlob{b, c.closed}, err
}

type closingBlob struct {
	castore.Blob
	closed chan struct{}
}

func (b closingBlob) Close() error {
	close(b.closed)
	return b.Blob.Close()
}

func TestIdle(t *testing.T) {
	w := newWorld(t)
	d := castoretest.PutBlob(t, w.blobs, castoretest.Pattern(32<<20, 0))
	closed := make(chan struct{})
	w.blobs = closing{w.blobs, closed}
	w.start(t, grpcserver.Options{Idle: 50 * time.Millisecond})
	rpc := castorev1.NewBlobServiceClient(w.conn)
	put, err := rpc.Put(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var reply castorev1.PutBlobResponse
	wantCode(t, "a client that sends nothing", put.RecvMsg(&reply), codes.DeadlineExceeded, "sent nothing")
	// A reader that takes nothing gets what was on its way, and then the end.
	read, err := rpc.Read(t.Context(), &castorev1.ReadBlobRequest{Digest: d[:]})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read.Header(); err != nil {
		t.Fatal(err)
	}
	<-closed // without having read
	_, err = all(read, nil)
	wantCode(t, "a client that takes nothing", err, codes.DeadlineExceeded, "took nothing")
}

func TestMaxMessage(t *testing.T) {
	w := newWorld(t).start(t, grpcserver.Options{MaxMessage: 100 << 10})
	put := func(size int) error {
		s, err := castorev1.NewBlobServiceClient(w.conn).Put(t.Context())
		if err != nil {
			return err
		}
		if err := s.Send(&castorev1.BlobChunk{Data: make([]byte, size)}); err != nil && err != io.EOF {
			return err
		}
		_, err = s.CloseAndRecv()
		return err
	}
	if err := put(99 << 10); err != nil {
		t.Errorf("99 KiB: %v", err)
	}
	wantCode(t, "200 KiB", put(200<<10), codes.ResourceExhausted, "larger than max")
}
