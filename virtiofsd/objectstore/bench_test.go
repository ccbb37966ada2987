package objectstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore/castoretest"
)

// benchSize is the size of the blob that the benchmarks store and read.
const benchSize = 32 << 20

// contents are one blob that does not compress and one that does about as well
// as programs do.
func contents() map[string][]byte {
	random := castoretest.Pattern(benchSize, 1)
	half := make([]byte, 0, benchSize)
	for len(half) < benchSize {
		part := random[len(half) : len(half)+256]
		half = append(append(half, part...), bytes.Repeat([]byte{part[0]}, 256)...)
	}
	return map[string][]byte{"random": random, "half": half}
}

// BenchmarkPut stores a blob and flushes it, beside the floor: the BLAKE3 of the
// same bytes and their copy into a file with an fsync.
func BenchmarkPut(b *testing.B) {
	for name, content := range contents() {
		b.Run(name+"/floor", func(b *testing.B) {
			dir := b.TempDir()
			b.SetBytes(benchSize)
			for i := 0; b.Loop(); i++ {
				blake3.Sum256(content)
				f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := f.Write(content); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
				f.Close()
				os.Remove(f.Name())
			}
		})
		b.Run(name+"/objectstore+file", func(b *testing.B) {
			b.SetBytes(benchSize)
			for b.Loop() {
				dir, err := os.MkdirTemp(b.TempDir(), "")
				if err != nil {
					b.Fatal(err)
				}
				s := openBlobs(b, "objectstore+file://"+dir)
				castoretest.PutBlob(b, s, content)
				flushAndClose(b, s)
				b.StopTimer()
				os.RemoveAll(dir)
				b.StartTimer()
			}
		})
	}
}

// BenchmarkGet reads a blob from its begin to its end, in pieces of the size
// that a guest asks for, beside the floor: reading a file that holds the same
// and its BLAKE3.
func BenchmarkGet(b *testing.B) {
	const piece = 128 << 10
	for name, content := range contents() {
		dir := b.TempDir()
		plain := filepath.Join(dir, "plain")
		if err := os.WriteFile(plain, content, 0o644); err != nil {
			b.Fatal(err)
		}
		s := openBlobs(b, "objectstore+file://"+dir+"/store")
		d := castoretest.PutBlob(b, s, content)
		flushAndClose(b, s)
		b.Run(name+"/floor", func(b *testing.B) {
			b.SetBytes(benchSize)
			for b.Loop() {
				f, err := os.Open(plain)
				if err != nil {
					b.Fatal(err)
				}
				h := blake3.New()
				if _, err := io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, piece)); err != nil {
					b.Fatal(err)
				}
				f.Close()
			}
		})
		b.Run(name+"/objectstore+file", func(b *testing.B) {
			b.SetBytes(benchSize)
			p := make([]byte, piece)
			for b.Loop() {
				s := openBlobs(b, "objectstore+file://"+dir+"/store") // nothing in its cache
				blob, err := s.Open(context.Background(), d)
				if err != nil {
					b.Fatal(err)
				}
				for off := int64(0); off < benchSize; off += piece {
					if n, err := blob.ReadAt(p, off); n != piece {
						b.Fatal(n, err)
					}
				}
				blob.Close()
				s.Close()
			}
		})
	}
}

// BenchmarkFirstRead reads 4 KiB from the middle of a blob with nothing in the
// cache, by a service that knows that the index is right, and by one that has to
// read the whole blob to find out: the cost of never handing out a wrong byte,
// once for each blob and process. Beside it the floor of the latter: the BLAKE3
// of the blob in memory.
func BenchmarkFirstRead(b *testing.B) {
	content := castoretest.Pattern(benchSize, 1)
	dir := b.TempDir()
	s := openBlobs(b, "objectstore+file://"+dir)
	d := castoretest.PutBlob(b, s, content)
	flushAndClose(b, s)
	read := func(b *testing.B, s *Blobs) {
		blob, err := s.Open(context.Background(), d)
		if err != nil {
			b.Fatal(err)
		}
		defer blob.Close()
		if _, err := blob.ReadAt(make([]byte, 4096), benchSize/2); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("floor", func(b *testing.B) {
		for b.Loop() {
			blake3.Sum256(content)
		}
	})
	for _, known := range []bool{true, false} {
		b.Run(fmt.Sprintf("known=%v", known), func(b *testing.B) {
			s := openBlobs(b, "objectstore+file://"+dir).(*Blobs)
			defer s.Close()
			read(b, s)
			for b.Loop() {
				if !known {
					s.proofs = newProofs()
				}
				s.cache = newChunkCache(cacheSize, s.loadChunk)
				read(b, s)
			}
		})
	}
}

// BenchmarkPutSmall stores a thousand small blobs and flushes them once, beside
// the floor: as many plain files and one sync of the file system.
func BenchmarkPutSmall(b *testing.B) {
	const n, size = 1000, 4000
	content := castoretest.Pattern(n+size, 1)
	b.Run("floor", func(b *testing.B) {
		b.SetBytes(n * size)
		for b.Loop() {
			dir := b.TempDir()
			for i := range n {
				part := content[i : i+size]
				sum := blake3.Sum256(part)
				if err := os.WriteFile(fmt.Sprintf("%s/%x", dir, sum), part, 0o644); err != nil {
					b.Fatal(err)
				}
			}
			f, err := os.Open(dir)
			if err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
	})
	b.Run("objectstore+file", func(b *testing.B) {
		b.SetBytes(n * size)
		for b.Loop() {
			s := openBlobs(b, "objectstore+file://"+b.TempDir())
			for i := range n {
				castoretest.PutBlob(b, s, content[i:i+size])
			}
			flushAndClose(b, s)
		}
	})
}
