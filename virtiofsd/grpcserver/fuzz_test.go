package grpcserver_test

import (
	"context"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/storev1"
	"storeboot/virtiofsd/proto/wire"
)

// methods are all methods of the store.
var methods = []string{
	castorev1.BlobService_Stat_FullMethodName,
	castorev1.BlobService_Read_FullMethodName,
	castorev1.BlobService_Put_FullMethodName,
	castorev1.DirectoryService_Get_FullMethodName,
	castorev1.DirectoryService_Put_FullMethodName,
	storev1.PathInfoService_Get_FullMethodName,
	storev1.PathInfoService_Put_FullMethodName,
	storev1.PathInfoService_CalculateNAR_FullMethodName,
	storev1.PathInfoService_List_FullMethodName,
}

// raw sends messages as they are, twice if again, and returns how many answers
// came.
func raw(ctx context.Context, c *grpc.ClientConn, method string, m []byte, again bool) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	s, err := c.NewStream(ctx, desc, method, grpc.ForceCodecV2(wire.Codec{}))
	if err != nil {
		return 0, err
	}
	b := wire.Encoded(m)
	if err := s.SendMsg(&b); err == nil && again {
		_ = s.SendMsg(&b) // its error comes with the answer
	}
	if err := s.CloseSend(); err != nil {
		return 0, err
	}
	for n := 0; ; n++ {
		var reply wire.Encoded
		if err := s.RecvMsg(&reply); err != nil {
			return n, err
		}
	}
}

type seed struct {
	method int
	m      []byte
	again  bool
}

// seeds are one message that works for each method, and some that do not.
func seeds(t testing.TB) []seed {
	t.Helper()
	p, err := pathinfotest.Full("p").Encode()
	if err != nil {
		t.Fatal(err)
	}
	a, b, _, _ := dirs(t)
	d := append([]byte{0x0a, 32}, castore.EmptyBlob[:]...)
	hash := pathinfotest.Path("there").Hash
	link := castore.AppendEntry(nil, castore.Entry{Node: castore.Node{Kind: castore.KindSymlink, Target: "x"}})
	return []seed{
		{0, d, false}, {1, d, false}, {2, []byte{0x0a, 2, 'h', 'i'}, true}, {3, append(d[:34:34], 0x10, 1), false}, {4, a.Encoded(), true},
		{5, append([]byte{0x0a, 20}, hash[:]...), false}, {6, p, false}, {7, link, false}, {8, nil, false},
		{0, d[:20], false}, {4, b.Encoded(), false}, {6, p[:len(p)-1], false}, {7, b.Encoded(), false}, {3, nil, false},
	}
}

func fuzzWorld(t testing.TB) *world {
	w := newWorld(t)
	if _, err := w.pathInfos.Put(context.Background(), pathinfotest.Full("there")); err != nil {
		t.Fatal(err)
	}
	castoretest.PutBlob(t, w.blobs, []byte("there"))
	return w.start(t, grpcserver.Options{})
}

// TestFuzzSeeds holds that the first seed of each method reaches its end.
func TestFuzzSeeds(t *testing.T) {
	w := fuzzWorld(t)
	for i, s := range seeds(t)[:len(methods)] {
		n, err := raw(t.Context(), w.conn, methods[s.method], s.m, s.again)
		if err != io.EOF || n == 0 && i != 1 { // the empty blob is read as no message
			t.Errorf("%s: %d answers, %v", methods[s.method], n, err)
		}
	}
}

// FuzzRequest sends any bytes to any method. The server has to answer, and what
// it holds has to stay sound.
func FuzzRequest(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s.method, s.m, s.again)
	}
	w := fuzzWorld(f)
	f.Fuzz(func(t *testing.T, method int, m []byte, again bool) {
		name := methods[uint(method)%uint(len(methods))]
		if _, err := raw(t.Context(), w.conn, name, m, again); status.Code(err) == codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := castoretest.GetBlob(w.blobs, castore.EmptyBlob); err != nil {
			t.Error(err)
		}
	})
}
