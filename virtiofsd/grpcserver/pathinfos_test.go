package grpcserver_test

import (
	"encoding/hex"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/storev1"
)

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
			{"directory of another size", directory(complicated.Digest(), 7), codes.DataLoss, "the size 8"},
			{"endless", directory(castore.Digest{1}, 1<<60), codes.InvalidArgument, "entries"},
		} {
			_, err := rpc.CalculateNAR(t.Context(), tt.m)
			wantCode(t, tt.name, err, tt.code, tt.text)
		}
	})
}
