package grpcstore_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/castore/fileblobs"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/grpcstore"
)

// newFiles makes a blob service of files.
func newFiles(b *testing.B) castore.BlobService {
	b.Helper()
	s, err := fileblobs.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// BenchmarkCopy moves one blob from file to file: by a plain copy, by a copy
// that also hashes (the least a store can do), and over a unix socket in both
// directions, with client and server in this process. Nothing waits for the
// disk.
func BenchmarkCopy(b *testing.B) {
	for _, size := range []int{4 << 10, 256 << 10, 64 << 20} {
		content := castoretest.Pattern(size, 0)
		dir := b.TempDir()
		from := filepath.Join(dir, "from")
		if err := os.WriteFile(from, content, 0o600); err != nil {
			b.Fatal(err)
		}
		// Through a buffer, as the floor of a program that sees the bytes.
		plain := func(b *testing.B, hash io.Writer) {
			b.SetBytes(int64(size))
			buf := make([]byte, 256<<10)
			for b.Loop() {
				r, err := os.Open(from)
				if err != nil {
					b.Fatal(err)
				}
				w, err := os.CreateTemp(dir, "to") // anew: to cut a file writes it to the disk
				if err != nil {
					b.Fatal(err)
				}
				_ = os.Remove(w.Name())
				for {
					n, err := r.Read(buf)
					if err == io.EOF {
						break
					}
					if err == nil {
						_, err = io.MultiWriter(w, hash).Write(buf[:n])
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				_ = r.Close()
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
		}
		name := func(s string) string { return fmt.Sprintf("%dKiB/%s", size>>10, s) }
		b.Run(name("plain"), func(b *testing.B) { plain(b, io.Discard) })
		b.Run(name("plain+hash"), func(b *testing.B) { plain(b, blake3.New()) })
		b.Run(name("get"), func(b *testing.B) {
			w := memory()
			w.blobs = newFiles(b)
			d := castoretest.PutBlob(b, w.blobs, content)
			if err := w.blobs.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			s := dial(b, serve(b, w, grpcserver.Options{}), grpcstore.Options{}).Blobs()
			b.SetBytes(int64(size))
			for b.Loop() { // ends in an unlinked file, or in memory if it is small
				blob, err := s.Open(b.Context(), d)
				if err != nil {
					b.Fatal(err)
				}
				_ = blob.Close()
			}
		})
		b.Run(name("put"), func(b *testing.B) {
			w := memory()
			w.blobs = newFiles(b)
			s := dial(b, serve(b, w, grpcserver.Options{}), grpcstore.Options{}).Blobs()
			b.SetBytes(int64(size))
			for b.Loop() { // the server finds out at the end that it has it
				castoretest.PutBlob(b, s, content)
			}
		})
	}
}
