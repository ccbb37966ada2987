package storefs

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/castore/fileblobs"
	"storeboot/virtiofsd/pathinfo"
)

// TestDamagedFiles flips a bit in every file of an embedded store and reads what
// was in it as a guest does: it gets EIO, never other bytes, and the log says
// what is damaged, where, and the way out. What is whole is served.
func TestDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	blobs, err := fileblobs.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	contents := map[castore.Digest][]byte{}
	put := func(size, seed int) castore.Digest {
		b := castoretest.Pattern(size, uint64(seed))
		d := castoretest.PutBlob(t, blobs, b)
		contents[d] = b
		return d
	}
	for i := range 40 { // so many that they share a file
		put(1000+i, i)
	}
	for _, size := range []int{300_000, 3 << 20} {
		put(size, size)
	}
	if err := blobs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	alone := put(5000, 5000) // one file for a few
	if err := blobs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := blobs.Close(); err != nil {
		t.Fatal(err)
	}
	flipped := 0
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasSuffix(path, ".used") || strings.HasSuffix(path, ".sums") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		at := len(b) / 2
		if strings.HasSuffix(path, ".pack") {
			at = 500 // in the first blob
		}
		b[at] ^= 4
		flipped++
		if err := os.Chmod(path, 0o644); err != nil {
			return err
		}
		return os.WriteFile(path, b, 0o644)
	})
	if err != nil || flipped != 4 {
		t.Fatalf("%d files: %v", flipped, err)
	}
	if blobs, err = fileblobs.Open(dir); err != nil {
		t.Fatal(err)
	}
	defer blobs.Close()
	var log bytes.Buffer
	served := New(Store{blobs, castore.NewMemoryDirectories(), pathinfo.NewMemory()}, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	defer served.Close()
	m := served.RawFileSystem(context.Background())
	// inode is the number of a store path that is the file n.
	inode := func(name byte, d castore.Digest, size int) uint64 {
		t.Helper()
		info := treeInfo(name, castore.Node{Kind: castore.KindFile, Digest: d, Size: uint64(size)})
		copy(info.StorePath.Hash[1:], d[:])
		tree, err := served.trees.get(info)
		if err != nil {
			t.Fatal(err)
		}
		return tree.id
	}
	failed := 0
	for d, want := range contents {
		log.Reset()
		id := inode(0, d, len(want))
		for range 2 { // it stays so
			for off := 0; off < len(want); off += 128 << 10 {
				got, status := readAsGuest(m, id, off, 128<<10)
				switch {
				case status == fuse.OK && !bytes.Equal(got, want[off:min(off+128<<10, len(want))]):
					t.Fatalf("blob of %d bytes at %d: other bytes", len(want), off)
				case status == fuse.EIO:
					failed++
					if text := log.String(); !strings.Contains(text, d.String()) || !strings.Contains(text, dir) || !strings.Contains(text, "verify --remove") {
						t.Errorf("the log says %q", text)
					}
				case status != fuse.OK:
					t.Errorf("blob of %d bytes at %d: %v", len(want), off, status)
				}
			}
		}
	}
	// One of the pack, one alone, all three parts of the middle one, and one
	// part of 24 of the large one; twice.
	if want := 2 * (1 + 1 + 3 + 1); failed != want {
		t.Errorf("%d reads fail, want %d (alone: %s)", failed, want, alone)
	}
	// A directory that says another size gets nothing of what lies behind.
	if _, status := readAsGuest(m, inode(1, castore.Digest{}, 10), 0, 10); status != fuse.EIO {
		t.Errorf("a blob that is not there: %v", status)
	}
	for d, want := range contents {
		id := inode(1, d, len(want)+100)
		if got, status := readAsGuest(m, id, len(want), 100); status != fuse.EIO {
			t.Fatalf("behind a blob of %d bytes: %d bytes, %v", len(want), len(got), status)
		}
	}
}

func readAsGuest(m fuse.RawFileSystem, id uint64, off, size int) ([]byte, fuse.Status) {
	in := &fuse.ReadIn{Offset: uint64(off), Size: uint32(size)}
	in.NodeId = id
	r, status := m.Read(nil, in, nil)
	if status != fuse.OK {
		return nil, status
	}
	defer r.Done()
	buf := make([]byte, size)
	return r.Bytes(buf)
}
