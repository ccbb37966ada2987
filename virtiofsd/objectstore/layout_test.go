package objectstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

// hashes is the 2 MiB of spec/store.md 8.
func hashes() []byte {
	b := make([]byte, 0, 2<<20)
	for i := range uint64(65536) {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, i))
		b = append(b, sum[:]...)
	}
	return b
}

// objects are the files of a bucket, by key.
func objects(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		key, _ := filepath.Rel(dir, path)
		all[key], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func flushAndClose(t testing.TB, s castore.BlobService) {
	t.Helper()
	if err := errors.Join(s.Flush(context.Background()), s.Close()); err != nil {
		t.Fatal(err)
	}
}

func gunzstd(t *testing.T, stored []byte) []byte {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(stored))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// TestBlobLayout holds the objects of spec/store.md 2.5 and the vectors of 8.
func TestBlobLayout(t *testing.T) {
	dir := t.TempDir()
	s := openBlobs(t, "objectstore+file://"+dir)
	for content, want := range map[string]string{
		string(hashes()): "d07abc3a41a889086b3c8d79655f439e2ad0979131eeb1a2fe353d9ca365c0c8",
		"Hello World":    "41f8394111eb713a22165c46c90ab8f0fd9399c92028fd6d288944b23ff5bf76",
		"":               castore.EmptyBlob.Hex(),
	} {
		if d := castoretest.PutBlob(t, s, []byte(content)); d.Hex() != want {
			t.Errorf("%d bytes have the digest %s, want %s", len(content), d.Hex(), want)
		}
	}
	flushAndClose(t, s)
	all := objects(t, dir)
	index := all["blobs/b3/d07a/d07abc3a41a889086b3c8d79655f439e2ad0979131eeb1a2fe353d9ca365c0c8"]
	if sum := sha256.Sum256(index); len(index) != 320 || hex.EncodeToString(sum[:]) != "14797c2112c73ba297da5d27f825cab824c95ec63ba5e13971694348bc88fd56" {
		t.Errorf("the index has %d bytes with the SHA-256 %x", len(index), sum)
	}
	if got := gunzstd(t, all["chunks/b3/41f8/41f8394111eb713a22165c46c90ab8f0fd9399c92028fd6d288944b23ff5bf76"]); string(got) != "Hello World" {
		t.Errorf("the chunk of one blob is %q", got)
	}
	first := gunzstd(t, all["chunks/b3/71e7/71e7da987fa54f2c94d96a391fa206b25332cb84fa367c0b5a1dba145c2f2b8c"])
	if !bytes.Equal(first, hashes()[:300369]) {
		t.Errorf("the first chunk has %d bytes", len(first))
	}
	if empty, ok := all["blobs/b3/af13/"+castore.EmptyBlob.Hex()]; !ok || len(empty) != 0 {
		t.Errorf("the index of the empty blob: %v, %d bytes", ok, len(empty))
	}
	if len(all) != 8+1+1+1 { // chunks, index; chunk; index
		t.Errorf("%d objects", len(all))
	}
}

// TestForeignBlobs reads what another writer may have left: an index for a blob
// of one chunk, chunks of several frames and of other sizes, fields of a later
// version, and temporary files.
func TestForeignBlobs(t *testing.T) {
	dir := t.TempDir()
	put := func(key string, data []byte) {
		t.Helper()
		path := filepath.Join(dir, key)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+"#1", []byte("half"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	chunk := func(parts ...string) chunkMeta {
		var stored []byte
		for _, part := range parts {
			stored = z.EncodeAll([]byte(part), stored)
		}
		whole := strings.Join(parts, "")
		d := digest([]byte(whole))
		put(chunkSpace.key(d), stored)
		return chunkMeta{d, int64(len(whole))}
	}
	one := chunk("one ", "chunk")
	put(blobSpace.key(one.digest), nil)
	index := encodeIndex([]chunkMeta{chunk("a"), chunk("bcd"), {castore.EmptyBlob, 0}, chunk("ef", "g")})
	index = append(index, 0x1a, 3, 'b', 'a', 'o', 0x50, 7) // field 3 is bao, field 10 is unknown
	several := digest([]byte("abcdefg"))
	put(blobSpace.key(several), index)
	listed := chunk("a list of one")
	put(blobSpace.key(listed.digest), encodeIndex([]chunkMeta{listed}))

	s := openBlobs(t, "objectstore+file://"+dir)
	defer s.Close()
	for d, want := range map[castore.Digest]string{one.digest: "one chunk", several: "abcdefg", listed.digest: "a list of one"} {
		checkRead(t, s, d, []byte(want))
		if has, err := s.Has(t.Context(), d); !has || err != nil {
			t.Errorf("Has = %v, %v", has, err)
		}
	}
	b, err := s.Open(t.Context(), several)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for off := range int64(7) {
		p := make([]byte, 3)
		n, err := b.ReadAt(p, off)
		if want := "abcdefg"[off:min(7, off+3)]; string(p[:n]) != want || n < 3 && err != io.EOF {
			t.Errorf("ReadAt %d = %q, %v", off, p[:n], err)
		}
	}
}

// TestDirectoryLayout holds the objects of spec/store.md 2.5, and which of them
// answer for inner directories.
func TestDirectoryLayout(t *testing.T) {
	dir := t.TempDir()
	url := "objectstore+file://" + dir
	a := castoretest.NewDirectory(t)
	b := castoretest.NewDirectory(t, castoretest.Sub("a", a))
	root := castoretest.NewDirectory(t, castoretest.Sub("a", a), castoretest.Sub("b", b))
	s := openDirectories(t, url)
	if _, err := castoretest.PutDirectories(s, a, b, root); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	all := objects(t, dir)
	const rootHex = "76cd8b55b37333961c1778ba997e57df92e219926ae5a66c414b810331a77603"
	stored := all["dirs/b3/76cd/"+rootHex]
	var want []byte
	for _, d := range []*castore.Directory{root, b, a} {
		want = append(binary.BigEndian.AppendUint32(want, uint32(len(d.Encoded()))), d.Encoded()...)
	}
	if got := gunzstd(t, stored); !bytes.Equal(got, want) {
		t.Errorf("the dirs/ object holds %x, want %x", got, want)
	}
	if n := bytes.Count(stored, []byte{0x28, 0xb5, 0x2f, 0xfd}); n != 1 {
		t.Errorf("the dirs/ object has %d zstd frames: snix reads one", n)
	}
	inner := innerSpace.key(b.Digest())
	rootDigest := root.Digest()
	if !bytes.Equal(all[inner], rootDigest[:]) || len(all) != 2 {
		t.Errorf("%d objects, the inner one %x", len(all), all[inner])
	}

	get := func(want error, dirs ...*castore.Directory) {
		t.Helper()
		s := openDirectories(t, url)
		defer s.Close()
		for _, d := range dirs {
			if got, err := s.Get(t.Context(), d.Digest()); !errors.Is(err, want) || err == nil && got.Digest() != d.Digest() {
				t.Errorf("Get = %v, %v, want error %v", got, err, want)
			}
		}
	}
	get(nil, b)
	n := 0
	s = openDirectories(t, url)
	for _, err := range s.Closure(t.Context(), b.Digest()) { // of an inner one
		if err != nil {
			t.Error(err)
		}
		n++
	}
	s.Close()
	if n != 2 {
		t.Errorf("the closure of an inner directory has %d", n)
	}
	// As snix writes it: without inner/.
	if err := os.Remove(filepath.Join(dir, inner)); err != nil {
		t.Fatal(err)
	}
	get(castore.ErrNotFound, b)
	get(nil, root, b) // from the object of the root
	s = openDirectories(t, url)
	if _, err := castoretest.PutDirectories(s, a, b, root); err != nil { // adds what is missing
		t.Fatal(err)
	}
	s.Close()
	get(nil, b)
	if err := os.Remove(filepath.Join(dir, dirSpace.key(root.Digest()))); err != nil {
		t.Fatal(err)
	}
	get(castore.ErrNotFound, b, root)
}

func TestBundleCache(t *testing.T) {
	leaf := castoretest.NewDirectory(t, castore.Entry{Name: "l", Node: castore.Node{Kind: castore.KindSymlink, Target: "t"}})
	c := newBundleCache(100)
	var roots []castore.Digest
	for _, name := range []string{"a", "b", "c"} {
		root := castoretest.NewDirectory(t, castoretest.Sub(name, leaf))
		roots = append(roots, root.Digest())
		c.add(root.Digest(), &bundle{
			order: []*castore.Directory{root, leaf},
			dirs:  map[castore.Digest]*castore.Directory{root.Digest(): root, leaf.Digest(): leaf},
			bytes: 50,
		})
	}
	if c.find(roots[0]) != nil || c.find(roots[1]) == nil || c.find(roots[2]) == nil || c.bytes != 100 {
		t.Errorf("the cache holds %d bytes, not those that were used last", c.bytes)
	}
	if b := c.find(leaf.Digest()); b == nil || b.dirs[leaf.Digest()] == nil {
		t.Error("a directory in two bundles is lost with a third")
	}
	for _, want := range roots[1:] {
		if got := c.holders[leaf.Digest()]; !slices.Contains(got, want) || len(got) != 2 {
			t.Errorf("holders %v", got)
		}
	}
}
