package castorenar

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

// world is a store with the trees of spec/store.md 8.
type world struct {
	blobs       castore.BlobService
	directories castore.DirectoryService
	hello       castore.Digest
	complicated *castore.Directory
}

func newWorld(t *testing.T) *world {
	w := &world{blobs: castore.NewMemoryBlobs(), directories: castore.NewMemoryDirectories()}
	w.hello = castoretest.PutBlob(t, w.blobs, []byte("Hello World!"))
	empty := castore.Entry{Name: ".keep", Node: castore.Node{Kind: castore.KindFile, Digest: castore.EmptyBlob}}
	keep := castoretest.NewDirectory(t, empty)
	w.complicated = castoretest.NewDirectory(t, castoretest.Sub("keep", keep), empty,
		castore.Entry{Name: "aa", Node: castore.Node{Kind: castore.KindSymlink, Target: "/nix/store/somewhereelse"}})
	if _, err := castoretest.PutDirectories(w.directories, keep, w.complicated); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestVectors(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name   string
		node   castore.Node
		size   uint64
		sha256 string
	}{
		{"symlink", castore.Node{Kind: castore.KindSymlink, Target: "/nix/store/somewhereelse"}, 136, "097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1"},
		{"file", castore.Node{Kind: castore.KindFile, Digest: w.hello, Size: 12}, 128, "03e7f63be30b065d78bcf615f5473545fdb4eb69aa416f43495b4e05cdfb8040"},
		{"executable", castore.Node{Kind: castore.KindFile, Digest: w.hello, Size: 12, Executable: true}, 160, "3b63b97bae149b3e6650437b9077c3d75b130192145792ec94ea3af96a8c567a"},
		{"complicated", w.complicated.Node(), 840, "ebd52279a8df024c9fd5718de4103bf5e760dc7f2cf49044ee7dea87ab16911a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			size, sum, err := Digest(t.Context(), tt.node, w.blobs, w.directories)
			if err != nil || size != tt.size || hex.EncodeToString(sum[:]) != tt.sha256 {
				t.Errorf("Digest = %d, %x, %v", size, sum, err)
			}
			var b bytes.Buffer
			if err := Write(t.Context(), &b, tt.node, w.blobs, w.directories); err != nil {
				t.Fatal(err)
			}
			if uint64(b.Len()) != tt.size || sha256.Sum256(b.Bytes()) != sum {
				t.Errorf("Write wrote %d bytes %x", b.Len(), b.Bytes())
			}
		})
	}
}

func TestRefused(t *testing.T) {
	w := newWorld(t)
	file := func(d castore.Digest, size uint64) castore.Node {
		return castore.Node{Kind: castore.KindFile, Digest: d, Size: size}
	}
	for name, tt := range map[string]struct {
		node castore.Node
		text string
		is   error
	}{
		"size of a file":      {file(w.hello, 13), "12 bytes and not 13", nil},
		"missing file":        {file(castore.Digest{1}, 1), "", castore.ErrNotFound},
		"missing directory":   {castore.Node{Kind: castore.KindDirectory, Digest: castore.Digest{1}}, "", castore.ErrNotFound},
		"size of a directory": {castore.Node{Kind: castore.KindDirectory, Digest: w.complicated.Digest(), Size: 7}, "the size 8 and not 7", nil},
		"no kind":             {castore.Node{}, "kind 0", nil},
	} {
		err := Write(t.Context(), io.Discard, tt.node, w.blobs, w.directories)
		if err == nil || !strings.Contains(err.Error(), tt.text) || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: %v", name, err)
		}
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Write(canceled, io.Discard, w.complicated.Node(), w.blobs, w.directories); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// full is a writer that takes so many bytes.
type full struct{ left int }

var errFull = errors.New("full")

func (f *full) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// TestWriterFails holds that the caller can tell its own error, wherever in the
// tree it happens.
func TestWriterFails(t *testing.T) {
	w := newWorld(t)
	large := castoretest.PutBlob(t, w.blobs, castoretest.Pattern(1<<20, 1))
	dir := castoretest.NewDirectory(t, castore.Entry{Name: "large", Node: castore.Node{Kind: castore.KindFile, Digest: large, Size: 1 << 20}})
	if _, err := castoretest.PutDirectories(w.directories, dir); err != nil {
		t.Fatal(err)
	}
	for _, left := range []int{0, 100, 1 << 18, 1<<20 + 100} {
		if err := Write(t.Context(), &full{left}, dir.Node(), w.blobs, w.directories); !errors.Is(err, errFull) {
			t.Errorf("after %d bytes: %v", left, err)
		}
	}
}
