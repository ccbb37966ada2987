package grpcstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/grpcstore"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/storev1"
)

// impatient has limits that a test can wait for.
var impatient = grpcstore.Options{Timeout: 200 * time.Millisecond, Idle: 200 * time.Millisecond}

// limits are the limits for a test that wants an error with texts: only one that
// waits for its end is impatient, so that a slow machine fails no other.
func limits(texts ...string) grpcstore.Options {
	for _, text := range texts {
		if strings.Contains(text, "for too long") || strings.Contains(text, "in time") {
			return impatient
		}
	}
	return grpcstore.Options{}
}

func wantError(t *testing.T, what string, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error lacks %q: %v", what, text, err)
		}
	}
}

type blobStream = grpc.ServerStreamingServer[castorev1.BlobChunk]

// TestBlobRead has servers that answer the request for one blob in wrong ways.
func TestBlobRead(t *testing.T) {
	content := castoretest.Pattern(3<<20, 0)
	d := castore.Digest(blake3.Sum256(content))
	send := func(s blobStream, b []byte) error {
		for len(b) > 0 {
			n := min(len(b), 100_000)
			if err := s.Send(&castorev1.BlobChunk{Data: b[:n]}); err != nil {
				return err
			}
			b = b[n:]
		}
		return nil
	}
	flipped := bytes.Clone(content)
	flipped[2<<20] ^= 1
	for _, tt := range []struct {
		name  string
		read  func(blobStream) error
		texts []string
	}{
		{"dies mid-stream", func(s blobStream) error {
			return errors.Join(send(s, content[:1<<20]), status.Error(codes.Unavailable, "gone"))
		}, []string{"gone"}},
		{"fails mid-stream", func(s blobStream) error {
			if err := send(s, content[:1<<20]); err != nil {
				return err
			}
			return status.Error(codes.Internal, "disk broken")
		}, []string{"disk broken"}},
		{"ends early", func(s blobStream) error { return send(s, content[:len(content)-1]) }, []string{"other bytes"}},
		{"one bit flipped", func(s blobStream) error { return send(s, flipped) }, []string{"other bytes"}},
		{"sends more", func(s blobStream) error { return errors.Join(send(s, content), send(s, []byte("x"))) }, []string{"other bytes"}},
		{"sends nothing", func(blobStream) error { return nil }, []string{"other bytes"}},
		{"hangs at once", func(s blobStream) error { <-s.Context().Done(); return nil }, []string{"for too long", "200ms"}},
		{"hangs mid-stream", func(s blobStream) error {
			_ = send(s, content[:1<<20])
			<-s.Context().Done()
			return nil
		}, []string{"for too long"}},
		{"has no end", func(s blobStream) error {
			for {
				if err := send(s, content); err != nil {
					return err
				}
			}
		}, []string{"more than 10000000 bytes"}},
		{"sends a huge message", func(s blobStream) error {
			return s.Send(&castorev1.BlobChunk{Data: make([]byte, 65<<20)})
		}, []string{"larger than max"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{}
			f.blobs.read = tt.read
			o := limits(tt.texts...)
			o.MaxBlob = 10_000_000
			b, err := f.connect(t, o).Blobs().Open(t.Context(), d)
			if err == nil {
				t.Errorf("a blob of %d bytes", b.Size())
			}
			wantError(t, "Open", err, append(tt.texts, d.String(), "grpc+unix:")...)
		})
	}
}

// TestBlobReadFromForeign has the chunks of tvix and snix, and one that is empty.
func TestBlobReadFromForeign(t *testing.T) {
	content := castoretest.Pattern(3<<20+5, 0)
	f := &fake{}
	f.blobs.read = func(s blobStream) error {
		for b := content; len(b) > 0; {
			n := min(len(b), 4096)
			if err := s.Send(&castorev1.BlobChunk{Data: b[:n]}); err != nil {
				return err
			}
			if err := s.Send(&castorev1.BlobChunk{}); err != nil {
				return err
			}
			b = b[n:]
		}
		return nil
	}
	b, err := f.connect(t, grpcstore.Options{}).Blobs().Open(t.Context(), castore.Digest(blake3.Sum256(content)))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	file, ok := b.(castore.FileBlob)
	if !ok || b.Size() != int64(len(content)) {
		t.Fatalf("%T of %d bytes, want a file", b, b.Size())
	}
	got := make([]byte, len(content))
	if _, err := file.File().ReadAt(got, 0); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the file has other contents, %v", err)
	}
	if st, err := file.File().Stat(); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the file: %v, %v", st.Mode(), err)
	}
}

type putStream = grpc.ClientStreamingServer[castorev1.BlobChunk, castorev1.PutBlobResponse]

func TestBlobWrite(t *testing.T) {
	content := castoretest.Pattern(10<<20, 0)
	d := castore.Digest(blake3.Sum256(content))
	drain := func(s putStream) {
		for {
			if _, err := s.Recv(); err != nil {
				return
			}
		}
	}
	for _, tt := range []struct {
		name  string
		put   func(putStream) error
		texts []string
	}{
		{"fails at once", func(putStream) error { return status.Error(codes.Internal, "disk full") }, []string{"disk full"}},
		{"fails at the end", func(s putStream) error { drain(s); return status.Error(codes.Internal, "disk full") }, []string{"disk full"}},
		{"answers early", func(s putStream) error { return s.SendAndClose(&castorev1.PutBlobResponse{Digest: d[:]}) }, nil},
		{"stores something else", func(s putStream) error {
			drain(s)
			return s.SendAndClose(&castorev1.PutBlobResponse{Digest: castore.EmptyBlob[:]})
		}, []string{castore.EmptyBlob.Hex(), d.String()}},
		{"answers nothing", func(s putStream) error { drain(s); return s.SendAndClose(&castorev1.PutBlobResponse{}) }, []string{d.String()}},
		{"takes nothing", func(s putStream) error { <-s.Context().Done(); return nil }, []string{"for too long"}},
		{"never answers", func(s putStream) error { drain(s); <-s.Context().Done(); return nil }, []string{"for too long"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{}
			f.blobs.put = tt.put
			w, err := f.connect(t, limits(tt.texts...)).Blobs().Create(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer w.Abort()
			_, err = w.Write(content)
			if got, closeErr := w.Close(); closeErr == nil && tt.texts != nil {
				t.Errorf("stored as %s", got)
			} else if err != nil && closeErr != err {
				t.Errorf("Close returns %v after a Write that failed with %v", closeErr, err)
			} else {
				err = closeErr
			}
			if tt.texts != nil {
				wantError(t, "Write or Close", err, append(tt.texts, "store a blob", "grpc+unix:")...)
			}
		})
	}
}

func message(t *testing.T, d *castore.Directory) *castorev1.Directory {
	t.Helper()
	m := &castorev1.Directory{}
	if err := proto.Unmarshal(d.Encoded(), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestDirectoryRead has the downloads of spec/store.md 8 and others.
func TestDirectoryRead(t *testing.T) {
	leaf := castoretest.NewDirectory(t, castore.Entry{Name: "l", Node: castore.Node{Kind: castore.KindSymlink, Target: "t"}})
	b := castoretest.NewDirectory(t, castoretest.Sub("a", leaf))
	c := castoretest.NewDirectory(t, castoretest.Sub("a", leaf), castoretest.Sub("a'", leaf))
	empty := castoretest.NewDirectory(t)
	overEmpty := castoretest.NewDirectory(t, castoretest.Sub("e", empty))
	LEAF, B, C := message(t, leaf), message(t, b), message(t, c)
	extra := proto.Clone(C).(*castorev1.Directory)
	extra.ProtoReflect().SetUnknown([]byte{0x78, 1})
	for _, tt := range []struct {
		name string
		root *castore.Directory
		sent []*castorev1.Directory
		end  error
		n    int      // how many come before the error
		text []string // nil: no error
	}{
		{"all", c, []*castorev1.Directory{C, LEAF}, nil, 2, nil},
		{"without the empty directory", overEmpty, []*castorev1.Directory{message(t, overEmpty)}, nil, 2, nil},
		{"one of another tree", c, []*castorev1.Directory{C, B}, nil, 1, []string{"not of this tree"}},
		{"child alone", b, []*castorev1.Directory{LEAF}, nil, 0, []string{"not of this tree"}},
		{"one twice", c, []*castorev1.Directory{C, LEAF, LEAF}, nil, 2, []string{"came before"}},
		{"one missing", c, []*castorev1.Directory{C}, nil, 1, []string{leaf.Digest().String(), "not in the store"}},
		{"fails mid-stream", c, []*castorev1.Directory{C}, status.Error(codes.Internal, "disk broken"), 1, []string{"disk broken"}},
		{"unknown field", c, []*castorev1.Directory{extra}, nil, 0, []string{"unknown field 15"}},
	} {
		f := &fake{}
		f.directories.get = func(_ *castorev1.GetDirectoryRequest, s grpc.ServerStreamingServer[castorev1.Directory]) error {
			for _, m := range tt.sent {
				if err := s.Send(m); err != nil {
					return err
				}
			}
			return tt.end
		}
		n := 0
		var last error
		for dir, err := range f.connect(t, grpcstore.Options{}).Directories().Closure(t.Context(), tt.root.Digest()) {
			if last = err; dir != nil {
				n++
			}
		}
		if n != tt.n {
			t.Errorf("%s: %d directories come, want %d", tt.name, n, tt.n)
		}
		if tt.text == nil && last != nil {
			t.Errorf("%s: %v", tt.name, last)
		} else if tt.text != nil {
			wantError(t, tt.name, last, append(tt.text, tt.root.Digest().String())...)
		}
	}
}

func TestDirectoryGet(t *testing.T) {
	leaf := castoretest.NewDirectory(t, castore.Entry{Name: "l", Node: castore.Node{Kind: castore.KindSymlink, Target: "t"}})
	b := castoretest.NewDirectory(t, castoretest.Sub("a", leaf))
	for _, tt := range []struct {
		name string
		get  func(grpc.ServerStreamingServer[castorev1.Directory]) error
		text string
	}{
		{"another one", func(s grpc.ServerStreamingServer[castorev1.Directory]) error { return s.Send(message(t, b)) }, b.Digest().String()},
		{"two", func(s grpc.ServerStreamingServer[castorev1.Directory]) error {
			return errors.Join(s.Send(message(t, leaf)), s.Send(message(t, leaf)))
		}, "more than one"},
		{"hangs", func(s grpc.ServerStreamingServer[castorev1.Directory]) error { <-s.Context().Done(); return nil }, "for too long"},
		{"dies", func(s grpc.ServerStreamingServer[castorev1.Directory]) error {
			return status.Error(codes.Unavailable, "gone")
		}, "is it running"},
	} {
		f := &fake{}
		f.directories.get = func(_ *castorev1.GetDirectoryRequest, s grpc.ServerStreamingServer[castorev1.Directory]) error {
			return tt.get(s)
		}
		_, err := f.connect(t, limits(tt.text)).Directories().Get(t.Context(), leaf.Digest())
		wantError(t, tt.name, err, tt.text, leaf.Digest().String())
	}
}

func TestDirectoryWrite(t *testing.T) {
	leaf := castoretest.NewDirectory(t, castore.Entry{Name: "l", Node: castore.Node{Kind: castore.KindSymlink, Target: "t"}})
	type stream = grpc.ClientStreamingServer[castorev1.Directory, castorev1.PutDirectoryResponse]
	for _, tt := range []struct {
		name string
		put  func(stream) error
		text string
	}{
		{"fails", func(stream) error { return status.Error(codes.DataLoss, "disk full") }, "disk full"},
		{"another root", func(s stream) error {
			_, _ = s.Recv()
			return s.SendAndClose(&castorev1.PutDirectoryResponse{RootDigest: castore.EmptyBlob[:]})
		}, castore.EmptyBlob.Hex()},
		{"hangs", func(s stream) error { <-s.Context().Done(); return nil }, "for too long"},
		{"too large", func(stream) error { return status.Error(codes.ResourceExhausted, "message larger than max") }, "larger than max"},
	} {
		f := &fake{}
		f.directories.put = tt.put
		_, err := castoretest.PutDirectories(f.connect(t, limits(tt.text)).Directories(), leaf)
		wantError(t, tt.name, err, tt.text, leaf.Digest().String(), "grpc+unix:")
	}
}

func pathInfoMessage(t *testing.T, p *pathinfo.PathInfo) *storev1.PathInfo {
	t.Helper()
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m := &storev1.PathInfo{}
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPathInfo(t *testing.T) {
	p, other := pathinfotest.Full("p"), pathinfotest.Full("other")
	short := pathInfoMessage(t, p)
	short.Narinfo.NarSha256 = short.Narinfo.NarSha256[1:]
	hang := func(ctx context.Context) (*storev1.PathInfo, error) { <-ctx.Done(); return nil, ctx.Err() }
	for _, tt := range []struct {
		name string
		get  func(context.Context) (*storev1.PathInfo, error)
		text string
	}{
		{"another one", func(context.Context) (*storev1.PathInfo, error) { return pathInfoMessage(t, other), nil }, other.StorePath.String()},
		{"an invalid one", func(context.Context) (*storev1.PathInfo, error) { return short, nil }, "31 bytes"},
		{"an empty one", func(context.Context) (*storev1.PathInfo, error) { return &storev1.PathInfo{}, nil }, "no root node"},
		{"hangs", hang, "in time (200ms)"},
		{"fails", func(context.Context) (*storev1.PathInfo, error) {
			return nil, status.Error(codes.DataLoss, "disk broken")
		}, "disk broken"},
	} {
		f := &fake{}
		f.pathInfos.get = tt.get
		f.pathInfos.put = func(*storev1.PathInfo) (*storev1.PathInfo, error) { return tt.get(t.Context()) }
		c := f.connect(t, limits(tt.text))
		_, err := c.PathInfos().Get(t.Context(), p.StorePath.Hash)
		wantError(t, "Get: "+tt.name, err, tt.text, p.StorePath.Hash.String())
		_, err = c.PathInfos().Put(t.Context(), p)
		wantError(t, "Put: "+tt.name, err, tt.text, p.StorePath.String())
	}
}

// TestListForeign has lists that do not say that they are in order.
func TestListForeign(t *testing.T) {
	var sent []*storev1.PathInfo
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		sent = append(sent, pathInfoMessage(t, pathinfotest.Bare(name)))
	}
	f := &fake{}
	f.pathInfos.list = func(s grpc.ServerStreamingServer[storev1.PathInfo]) error {
		for _, m := range sent {
			if err := s.Send(m); err != nil {
				return err
			}
		}
		return nil
	}
	s := f.connect(t, grpcstore.Options{}).PathInfos()
	var last *pathinfo.PathInfo
	n := 0
	for p, err := range s.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if last != nil && bytes.Compare(last.StorePath.Hash[:], p.StorePath.Hash[:]) >= 0 {
			t.Errorf("%s comes after %s", p.StorePath, last.StorePath)
		}
		last = p
		n++
	}
	if n != len(sent) {
		t.Errorf("%d path infos, want %d", n, len(sent))
	}
	sent = append(sent, sent[0])
	var err error
	for _, err = range s.List(t.Context()) {
	}
	wantError(t, "one twice", err, "twice")
	sent = append(sent, &storev1.PathInfo{})
	for _, err = range s.List(t.Context()) {
	}
	wantError(t, "an invalid one", err, "no root node", "list path infos")
}

// TestSpoolFails has no room for a blob.
func TestSpoolFails(t *testing.T) {
	w := memory()
	d := castoretest.PutBlob(t, w.blobs, castoretest.Pattern(2<<20, 0))
	c := dial(t, serve(t, w, grpcserver.Options{}), grpcstore.Options{})
	if _, err := c.Blobs().Open(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	broken, err := grpcstore.Dial(t.Context(), serve(t, w, grpcserver.Options{}), grpcstore.Options{SpoolDir: "/no/such/dir"})
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	_, err = broken.Blobs().Open(t.Context(), d)
	wantError(t, "no directory", err, "/no/such/dir", "temporary file", d.String())
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cause is lost: %v", err)
	}
}

// TestHugeDirectory holds what fits a message and what does not.
func TestHugeDirectory(t *testing.T) {
	var entries []castore.Entry
	for i := range 120_000 {
		entries = append(entries, castore.Entry{Name: fmt.Sprintf("%08d", i), Node: castore.Node{Kind: castore.KindFile, Size: 1 << 30}})
	}
	huge := castoretest.NewDirectory(t, entries...)
	if n := len(huge.Encoded()); n < 5<<20 {
		t.Fatalf("the directory has only %d bytes", n)
	}
	s := dial(t, serve(t, memory(), grpcserver.Options{}), grpcstore.Options{}).Directories()
	if _, err := castoretest.PutDirectories(s, huge); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), huge.Digest()); err != nil || got.Digest() != huge.Digest() {
		t.Errorf("Get: %v", err)
	}
	small := dial(t, serve(t, memory(), grpcserver.Options{MaxMessage: 4 << 20}), grpcstore.Options{}).Directories()
	_, err := castoretest.PutDirectories(small, huge)
	wantError(t, "a server of 4 MiB", err, huge.Digest().String(), "larger than max")
}
