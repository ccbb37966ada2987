package grpcstore_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/zeebo/blake3"
	"google.golang.org/grpc"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/grpcstore"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
	"storeboot/virtiofsd/proto/wire"
)

// echo is a server that answers every call with the same bytes, as one message
// or as two.
type echo struct {
	reply wire.Encoded
	again bool
}

func (e *echo) handle(_ any, stream grpc.ServerStream) error {
	for {
		var request wire.Encoded
		if err := stream.RecvMsg(&request); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	if e.again {
		if err := stream.SendMsg(&e.reply); err != nil {
			return err
		}
	}
	return stream.SendMsg(&e.reply)
}

func (e *echo) connect(t testing.TB) *grpcstore.Conn {
	l, address := listen(t)
	s := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}), grpc.UnknownServiceHandler(e.handle))
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return dial(t, address, grpcstore.Options{})
}

// replies are what is asked for, and the answers with which the calls succeed.
type replies struct {
	content             []byte
	blob                castore.Digest
	leaf                *castore.Directory
	info                *pathinfo.PathInfo
	chunk, stored, path []byte
}

func newReplies(t testing.TB) replies {
	r := replies{content: []byte("hello"), info: pathinfotest.Full("p")}
	r.blob = castore.Digest(blake3.Sum256(r.content))
	r.leaf = castoretest.NewDirectory(t, castore.Entry{Name: "l", Node: castore.Node{Kind: castore.KindSymlink, Target: "t"}})
	r.chunk = append([]byte{0x0a, byte(len(r.content))}, r.content...)
	r.stored = append([]byte{0x0a, 32}, r.blob[:]...)
	var err error
	if r.path, err = r.info.Encode(); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestFuzzSeeds holds that the seeds of FuzzReply reach the end of the calls.
func TestFuzzSeeds(t *testing.T) {
	r := newReplies(t)
	e := &echo{}
	c := e.connect(t)
	e.reply = r.chunk
	if got, err := castoretest.GetBlob(c.Blobs(), r.blob); err != nil || !bytes.Equal(got, r.content) {
		t.Errorf("blob: %q, %v", got, err)
	}
	e.reply = r.stored
	castoretest.PutBlob(t, c.Blobs(), r.content)
	e.reply = r.leaf.Encoded()
	if _, err := c.Directories().Get(t.Context(), r.leaf.Digest()); err != nil {
		t.Error(err)
	}
	e.reply = r.path
	if _, err := c.PathInfos().Put(t.Context(), r.info); err != nil {
		t.Error(err)
	}
}

// FuzzReply answers every call with any bytes. What the client takes has to be
// what was asked for.
func FuzzReply(f *testing.F) {
	r := newReplies(f)
	for _, b := range [][]byte{nil, r.chunk, r.stored, r.leaf.Encoded(), r.path, r.path[1:]} {
		f.Add(b, false)
		f.Add(b, true)
	}
	e := &echo{}
	c := e.connect(f)
	blobs, directories, pathInfos := c.Blobs(), c.Directories(), c.PathInfos()
	f.Fuzz(func(t *testing.T, b []byte, again bool) {
		e.reply, e.again = b, again
		ctx := t.Context()
		if got, err := castoretest.GetBlob(blobs, r.blob); err == nil && !bytes.Equal(got, r.content) {
			t.Errorf("the blob %q", got)
		}
		w, err := blobs.Create(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(r.content) // Close has its error
		if d, err := w.Close(); err == nil && (d != r.blob || !bytes.Contains(b, r.blob[:])) {
			t.Errorf("stored as %s by the answer %x", d, b)
		}
		if got, err := directories.Get(ctx, r.leaf.Digest()); err == nil && got.Digest() != r.leaf.Digest() {
			t.Errorf("the directory %s", got.Digest())
		}
		n := 0
		for got, err := range directories.Closure(ctx, r.leaf.Digest()) {
			if n++; err == nil && got.Digest() != r.leaf.Digest() || n > 2 {
				t.Errorf("in the closure %v, %v", got, err)
			}
		}
		if got, err := pathInfos.Get(ctx, r.info.StorePath.Hash); err == nil && got.StorePath.Hash != r.info.StorePath.Hash {
			t.Errorf("path info of %s", got.StorePath)
		}
		if got, err := pathInfos.Put(ctx, r.info); err == nil && got.StorePath != r.info.StorePath {
			t.Errorf("stored path info of %s", got.StorePath)
		}
		var last *pathinfo.PathInfo
		for got, err := range pathInfos.List(ctx) {
			if err == nil && last != nil && got.StorePath.Hash == last.StorePath.Hash {
				t.Errorf("%s is listed twice", got.StorePath)
			}
			last = got
		}
	})
}
