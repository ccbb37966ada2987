package ingest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/castore/fileblobs"
)

// BenchmarkPath takes trees in: into nothing that stores, beside its floor,
// reading them with one buffer into both hashes on one CPU; into files on the
// disk, beside copying them and one sync; and into files where all is there
// already.
func BenchmarkPath(b *testing.B) {
	for _, tt := range []struct {
		name        string
		files, size int
	}{
		{"small", 4000, 2 << 10},
		{"medium", 500, 200 << 10},
		{"large", 2, 64 << 20},
	} {
		root := b.TempDir()
		for i := range tt.files {
			dir := filepath.Join(root, fmt.Sprint(i%50))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), castoretest.Pattern(tt.size, uint64(i)), 0o644); err != nil {
				b.Fatal(err)
			}
		}
		bytes := int64(tt.files * tt.size)
		b.Run("floor=read+hash/"+tt.name, func(b *testing.B) {
			b.SetBytes(bytes)
			buf := make([]byte, chunkSize)
			for b.Loop() {
				if err := readAndHash(root, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
		ingest := func(b *testing.B, blobs castore.BlobService) {
			if _, err := Path(context.Background(), blobs, castore.NewMemoryDirectories(), root, nil); err != nil {
				b.Fatal(err)
			}
		}
		b.Run("discard/"+tt.name, func(b *testing.B) {
			b.SetBytes(bytes)
			for b.Loop() {
				ingest(b, discard{})
			}
		})
		b.Run("floor=copy/"+tt.name, func(b *testing.B) {
			b.SetBytes(bytes)
			for b.Loop() {
				b.StopTimer()
				to := b.TempDir()
				b.StartTimer()
				if err := copyAll(root, to); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("files/"+tt.name, func(b *testing.B) {
			b.SetBytes(bytes)
			for b.Loop() {
				b.StopTimer()
				blobs := openFiles(b, b.TempDir())
				b.StartTimer()
				ingest(b, blobs)
			}
		})
		b.Run("again/"+tt.name, func(b *testing.B) {
			b.SetBytes(bytes)
			blobs := openFiles(b, b.TempDir())
			ingest(b, blobs)
			for b.Loop() {
				ingest(b, blobs)
			}
		})
	}
}

func openFiles(b *testing.B, dir string) castore.BlobService {
	blobs, err := fileblobs.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { blobs.Close() })
	return blobs
}

func copyAll(from, to string) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	d, err := os.Open(to)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

func readAndHash(root string, buf []byte) error {
	nar := sha256.New()
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		blob := blake3.New()
		for {
			n, err := f.Read(buf)
			_, _ = nar.Write(buf[:n])
			_, _ = blob.Write(buf[:n])
			if err == io.EOF {
				blob.Sum(nil)
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
}

// discard hashes blobs and stores nothing.
type discard struct{ castore.BlobService }

func (discard) Create(context.Context) (castore.BlobWriter, error) {
	return discardWriter{blake3.New()}, nil
}
func (discard) Flush(context.Context) error { return nil }

type discardWriter struct{ *blake3.Hasher }

func (w discardWriter) Abort() {}
func (w discardWriter) Close() (castore.Digest, error) {
	return castore.Digest(w.Sum(nil)), nil
}
