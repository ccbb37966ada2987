package verify

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/ingest"
	"storeboot/virtiofsd/pathinfo"
)

// The damage that files and rows can have is in the tests of the command; here
// is what only a store in memory can show.

func memory() Store {
	return Store{castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), pathinfo.NewMemory()}
}

// add stores a tree with one file of these contents.
func add(t testing.TB, s Store, name string, content []byte) *pathinfo.PathInfo {
	t.Helper()
	ctx := context.Background()
	root := filepath.Join(t.TempDir(), name)
	if err := errors.Join(os.MkdirAll(root+"/sub", 0o755), os.WriteFile(root+"/sub/file", content, 0o644)); err != nil {
		t.Fatal(err)
	}
	r, err := ingest.Path(ctx, s.Blobs, s.Directories, root, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := storepath.FromNARHash(name, r.NarSHA256)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.PathInfos.Put(ctx, &pathinfo.PathInfo{StorePath: p, Node: r.Node, NarSize: r.NarSize, NarSHA256: r.NarSHA256})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// badBlobs gives other bytes for one blob, fails at them, or has lost it.
type badBlobs struct {
	castore.BlobService
	bad  castore.Digest
	open func(castore.Blob) (castore.Blob, error)
}

func (b badBlobs) Open(ctx context.Context, d castore.Digest) (castore.Blob, error) {
	blob, err := b.BlobService.Open(ctx, d)
	if err != nil || d != b.bad {
		return blob, err
	}
	return b.open(blob)
}

// badBlob reads as zeros, or fails at the byte failAt if that is not 0.
type badBlob struct {
	castore.Blob
	failAt int64
}

var errDisk = errors.New("input/output error")

func (b badBlob) ReadAt(p []byte, off int64) (int, error) {
	if b.failAt != 0 && off+int64(len(p)) > b.failAt {
		return 0, errDisk
	}
	n, err := b.Blob.ReadAt(p, off)
	if b.failAt == 0 {
		clear(p[:n])
	}
	return n, err
}

// TestBlobs has a blob that cannot be read in a store that cannot list its
// blobs, needed by two of three paths.
func TestBlobs(t *testing.T) {
	good := castoretest.Pattern(1<<20, 1)
	for name, tt := range map[string]struct {
		open func(castore.Blob) (castore.Blob, error)
		err  string
	}{
		"other bytes": {func(b castore.Blob) (castore.Blob, error) { return badBlob{b, 0}, nil }, "digest"},
		"read error":  {func(b castore.Blob) (castore.Blob, error) { return badBlob{b, 1 << 19}, nil }, "input/output"},
		"open error":  {func(castore.Blob) (castore.Blob, error) { return nil, errDisk }, "input/output"},
		"short": {func(b castore.Blob) (castore.Blob, error) {
			return shortBlob{b}, nil
		}, "digest"},
	} {
		s := memory()
		add(t, s, "a", good)
		b := add(t, s, "b", good)
		add(t, s, "c", []byte("another"))
		dir, err := s.Directories.Get(context.Background(), b.Node.Digest)
		if err != nil {
			t.Fatal(err)
		}
		sub, err := s.Directories.Get(context.Background(), dir.Entries()[0].Digest)
		if err != nil {
			t.Fatal(err)
		}
		bad := sub.Entries()[0].Digest
		var told atomic.Int64
		progress := func(n, total int64) {
			if total <= 0 {
				t.Errorf("%s: %d of %d bytes", name, n, total)
			}
			told.Add(n)
		}
		r, err := Run(context.Background(), Store{badBlobs{s.Blobs, bad, tt.open}, s.Directories, s.PathInfos}, Options{Progress: progress})
		if err != nil || r.Paths != 3 || r.Blobs != 2 || len(r.Damaged) != 1 {
			t.Fatalf("%s: %+v, %v", name, r, err)
		}
		d := r.Damaged[0]
		if d.Kind != Blob || d.Digest != bad || len(d.Paths) != 2 || !strings.Contains(d.Err.Error(), tt.err) {
			t.Errorf("%s: %+v", name, d)
		}
		if told.Load() == 0 {
			t.Errorf("%s: no progress", name)
		}
	}
}

// shortBlob is one byte shorter.
type shortBlob struct{ castore.Blob }

func (b shortBlob) Size() int64 { return b.Blob.Size() - 1 }
func (b shortBlob) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(b.Blob, 0, b.Size()).ReadAt(p, off)
}

func TestMemory(t *testing.T) {
	s := memory()
	info := add(t, s, "a", []byte("x"))
	r, err := Run(context.Background(), s, Options{})
	if err != nil || r.Paths != 1 || r.Directories != 2 || r.Blobs != 1 || r.BlobBytes != 1 || len(r.Damaged) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	// A NAR without end: directories that hold one another 60 deep, twice each.
	put, err := s.Directories.Put(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	d := castoretest.NewDirectory(t)
	for range 60 {
		if _, err := put.Put(d); err != nil {
			t.Fatal(err)
		}
		d = castoretest.NewDirectory(t, castoretest.Sub("a", d), castoretest.Sub("b", d))
	}
	if _, err := put.Put(d); err != nil {
		t.Fatal(err)
	}
	if _, err := put.Close(); err != nil {
		t.Fatal(err)
	}
	bomb := *info
	bomb.StorePath.Hash[0]++
	bomb.Node = d.Node()
	if _, err := s.PathInfos.Put(context.Background(), &bomb); err != nil {
		t.Fatal(err)
	}
	r, err = Run(context.Background(), s, Options{})
	if err != nil || len(r.Damaged) != 1 || r.Damaged[0].Kind != PathInfo || r.Damaged[0].Hash != bomb.StorePath.Hash || !strings.Contains(r.Damaged[0].Err.Error(), "more than") {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := Run(context.Background(), s, Options{Remove: true}); err == nil || !strings.Contains(err.Error(), "store of files") {
		t.Errorf("Remove: %v", err)
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(canceled, s, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}
