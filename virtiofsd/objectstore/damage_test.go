package objectstore

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

func digest(b []byte) castore.Digest { return castore.Digest(blake3.Sum256(b)) }

// TestDamagedBlobs holds that damage is an error that names what is damaged.
func TestDamagedBlobs(t *testing.T) {
	content := hashes()
	whole := digest(content)
	chunks := []chunkMeta{}
	fresh := func(t *testing.T) string {
		dir := t.TempDir()
		s := openBlobs(t, "objectstore+file://"+dir)
		castoretest.PutBlob(t, s, content)
		castoretest.PutBlob(t, s, []byte("small"))
		flushAndClose(t, s)
		index, err := os.ReadFile(filepath.Join(dir, blobSpace.key(whole)))
		if err != nil {
			t.Fatal(err)
		}
		if chunks, err = parseIndex(index); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	third := func() string { return chunkSpace.key(chunks[2].digest) }
	index := func() string { return blobSpace.key(whole) }
	for _, tt := range []struct {
		name   string
		object func() string
		change func([]byte) []byte // nil removes the object
		want   []string
	}{
		{"chunk is missing", third, nil, []string{"chunk 3 of 8", "missing"}},
		{"chunk is cut", third, func(b []byte) []byte { return b[:len(b)-1] }, []string{"damaged"}},
		{"chunk is empty", third, func([]byte) []byte { return []byte{} }, []string{"digest", "damaged"}},
		{"bit of a chunk", third, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, []string{"damaged"}},
		{"garbage behind a chunk", third, func(b []byte) []byte { return append(b, "garbage"...) }, []string{"damaged"}},
		{"index is cut within a chunk", index, func(b []byte) []byte { return b[:len(b)-3] }, []string{"index", "damaged"}},
		{"index lacks its last chunk", index, func([]byte) []byte { return encodeIndex(chunks[:7]) }, []string{"make up", "damaged"}},
		{"index in another order", index, func([]byte) []byte {
			return encodeIndex(append(append([]chunkMeta{}, chunks[4:]...), chunks[:4]...))
		}, []string{"make up", "damaged"}},
		{"index of one chunk", index, func([]byte) []byte { return encodeIndex(chunks[:1]) }, []string{"make up", "damaged"}},
		{"index is empty", index, func([]byte) []byte { return []byte{} }, []string{"one chunk", "damaged"}},
		{"index with another size", index, func([]byte) []byte {
			other := append([]chunkMeta{}, chunks...)
			other[2].size--
			return encodeIndex(other)
		}, []string{"chunk 3 of 8", "damaged"}},
		{"index with a digest that is too short", index, func([]byte) []byte { return []byte{0x12, 4, 0x0a, 2, 1, 2} }, []string{"2 bytes", "damaged"}},
	} {
		dir := fresh(t)
		path := filepath.Join(dir, tt.object())
		if tt.change == nil {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		} else {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Remove(path), os.WriteFile(path, tt.change(b), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		s := openBlobs(t, "objectstore+file://"+dir)
		got, err := castoretest.GetBlob(s, whole)
		if err == nil || errors.Is(err, castore.ErrNotFound) || len(got) > 0 {
			t.Errorf("%s: read %d bytes, %v", tt.name, len(got), err)
		}
		readAnywhere(t, s, whole, tt.name)
		for _, want := range append(tt.want, whole.String(), tt.object()[len("chunks/b3/xxxx/"):][:20]) {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error lacks %q: %v", tt.name, want, err)
			}
		}
		checkRead(t, s, digest([]byte("small")), []byte("small")) // others are whole
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// readAnywhere fails if a single read of a damaged blob gives anything.
func readAnywhere(t *testing.T, s castore.BlobService, d castore.Digest, name string) {
	t.Helper()
	b, err := s.Open(t.Context(), d)
	if err != nil {
		return
	}
	defer b.Close()
	for _, off := range []int64{b.Size() / 2, 0, b.Size() - 1, b.Size()} {
		if n, err := b.ReadAt(make([]byte, 10), off); n > 0 || err == nil || err == io.EOF {
			t.Errorf("%s: read at %d = %d, %v", name, off, n, err)
		}
	}
}

// TestSwappedIndexes holds that a blob whose index is that of another one, of
// whole chunks, gives nothing: not to the first read, not beside other readers.
func TestSwappedIndexes(t *testing.T) {
	dir := t.TempDir()
	s := openBlobs(t, "objectstore+file://"+dir)
	content := castoretest.Pattern(3<<20, 1)
	good := castoretest.PutBlob(t, s, content)
	bad := castoretest.PutBlob(t, s, castoretest.Pattern(3<<20, 2))
	flushAndClose(t, s)
	index, err := os.ReadFile(filepath.Join(dir, blobSpace.key(good)))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, blobSpace.key(bad))
	if err := errors.Join(os.Remove(path), os.WriteFile(path, index, 0o644)); err != nil {
		t.Fatal(err)
	}
	s = openBlobs(t, "objectstore+file://"+dir)
	defer s.Close()
	checkRead(t, s, good, content) // its chunks are known and whole
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { readAnywhere(t, s, bad, "swapped") })
	}
	wg.Wait()
	checkRead(t, s, good, content)
}

// TestBomb holds that what decompresses to more than a chunk is refused.
func TestBomb(t *testing.T) {
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if got, err := c.decompress(c.compress(make([]byte, maxChunk))); err != nil || len(got) != maxChunk {
		t.Errorf("the longest chunk: %d bytes, %v", len(got), err)
	}
	if got, err := c.decompress(c.compress(make([]byte, maxChunk+1))); err == nil {
		t.Errorf("a longer one: %d bytes", len(got))
	}
	two := append(c.compress(make([]byte, maxChunk)), c.compress([]byte("x"))...)
	if got, err := c.decompress(two); err == nil {
		t.Errorf("a longer one of two frames: %d bytes", len(got))
	}
}
