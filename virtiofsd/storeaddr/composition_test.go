package storeaddr

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
)

// writeComposition writes a composition file, in which DIR stands for dir.
func writeComposition(t *testing.T, dir, text string) Addresses {
	t.Helper()
	file := filepath.Join(dir, "store.toml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	return Addresses{Dir: "/nowhere", Blobs: "ftp://not-used", Composition: file}
}

// cached is a composition in which a local cache is in front of another store.
const cached = `
[blobservices.root]
type = "combined"
near = "near"
far = "far"
[blobservices.near]
type = "file"
path = "DIR/near"
[blobservices.far]
type = "objectstore"
object_store_url = "file://DIR/far"
object_store_options = {}

[directoryservices.root]
type = "cache"
near = "sqlite://DIR/near.sqlite"
far = "far"
[directoryservices.far]
type = "redb"
is_temporary = false
path = "DIR/far.redb"

[pathinfoservices.root]
type = "cache"
near = "near"
far = "far"
[pathinfoservices.near]
type = "sqlite"
path = "DIR/near.sqlite"
[pathinfoservices.far]
type = "redb"
is_temporary = false
path = "DIR/far.redb"
`

// TestComposition fills a far store, reads it through a cache, and finds what
// was read in near when far is gone.
func TestComposition(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	far := Addresses{Blobs: "objectstore+file://" + dir + "/far", Directories: "redb://" + dir + "/far.redb", PathInfos: "redb://" + dir + "/far.redb"}
	s, err := Open(ctx, far)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	leaf := castoretest.NewDirectory(t, castore.Entry{Name: "x", Node: castore.Node{Kind: castore.KindFile}})
	blob := castoretest.PutBlob(t, castore.NewMemoryBlobs(), []byte("x"))
	read := func(a Addresses) {
		t.Helper()
		s, err := Open(ctx, a)
		if err != nil {
			t.Fatal(err)
		}
		content, err1 := castoretest.GetBlob(s.Blobs, blob)
		_, err2 := s.Directories.Get(ctx, leaf.Digest())
		_, err3 := s.PathInfos.Get(ctx, pathinfotest.Path("x").Hash)
		if err := errors.Join(err1, err2, err3, s.Close()); err != nil || string(content) != "x" {
			t.Errorf("read %q, %v", content, err)
		}
	}
	a := writeComposition(t, dir, cached)
	read(a)
	if err := errors.Join(os.RemoveAll(dir+"/far"), os.RemoveAll(dir+"/far.redb")); err != nil {
		t.Fatal(err)
	}
	read(a)
	read(Addresses{Blobs: "file://" + dir + "/near", Directories: "sqlite://" + dir + "/near.sqlite", PathInfos: "sqlite://" + dir + "/near.sqlite"})
}

func TestCompositionSharesServices(t *testing.T) {
	const others = "[directoryservices.root]\ntype='memory'\n[pathinfoservices.root]\ntype='memory'\n"
	s, err := Open(context.Background(), writeComposition(t, t.TempDir(), others+"[blobservices.root]\ntype='cache'\nnear='a'\nfar='b'\n[blobservices.a]\ntype='memory'\n[blobservices.b]\ntype='cache'\nnear='a'\nfar='memory:'"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// root, a, b, the memory of b, directories and path infos.
	if n := len(s.built.closers); n != 6 {
		t.Errorf("%d services were opened", n)
	}
}

func TestCompositionRefuses(t *testing.T) {
	const others = "[directoryservices.root]\ntype='memory'\n[pathinfoservices.root]\ntype='memory'\n"
	for _, tt := range []struct{ name, text, err string }{
		{"not TOML", "x", "store.toml:1"},
		{"bad option", others + "[blobservices.root]\ntype='objectstore'\nobject_store_url='s3://b'\nobject_store_options={aws_secret='hush'}", `store.toml:5: [blobservices.root]: blob service address "objectstore+s3://b?...": unknown parameter "aws_secret"`},
		{"bad address in one that is not used", others + "[blobservices.root]\ntype='memory'\n[blobservices.a]\ntype='cache'\nnear='ftp://x'\nfar='root'", `store.toml:7: [blobservices.a]: blob service address "ftp://x": unknown scheme "ftp"`},
		{"circle", others + "[blobservices.root]\ntype='cache'\nnear='root'\nfar='root'", "circle"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Open(context.Background(), writeComposition(t, t.TempDir(), tt.text))
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "hush") {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}
