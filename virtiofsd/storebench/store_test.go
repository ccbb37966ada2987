package storebench

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/grpcserver"
	"storeboot/virtiofsd/grpcstore"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storeaddr"
)

const (
	fewPaths  = 1_000
	manyPaths = 1_000_000
)

// storeOf is the directory of an embedded store of n paths. A large one is kept
// in the directory of the benchmarks.
func storeOf(b *testing.B, n int) string {
	name := map[int]string{fewPaths: "paths-1k", manyPaths: "paths-1M"}[n]
	dir := filepath.Join(keep(b), name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := Paths(filepath.Join(dir, "store.sqlite"), n); err != nil {
		b.Fatal(err)
	}
	return dir
}

// open opens an embedded store.
func open(b *testing.B, dir string) *storeaddr.Store {
	s, err := storeaddr.Open(b.Context(), storeaddr.Addresses{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// serve serves a store over gRPC on a unix socket and returns a connection.
func serve(b *testing.B, s *storeaddr.Store) *grpcstore.Conn {
	dir, err := os.MkdirTemp("", "sb") // short: a socket's path is
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", dir+"/s")
	if err != nil {
		b.Fatal(err)
	}
	server := grpcserver.New(s.Blobs, s.Directories, s.PathInfos, grpcserver.Options{Idle: time.Minute})
	go func() { _ = server.Serve(l) }()
	b.Cleanup(func() { server.Shutdown(context.Background()) })
	return dial(b, dir+"/s")
}

func dial(b *testing.B, socket string) *grpcstore.Conn {
	c, err := grpcstore.Dial(b.Context(), "grpc+unix://"+socket, grpcstore.Options{SpoolDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	return c
}

// BenchmarkLookup looks up random path infos and directories in a store of a
// thousand and one of a million, by turns: in the embedded store, and through
// the gRPC server on a unix socket. 1M/1k is how many times as long a lookup
// takes in the larger one.
func BenchmarkLookup(b *testing.B) {
	few, many := open(b, storeOf(b, fewPaths)), open(b, storeOf(b, manyPaths))
	fewServed, manyServed := serve(b, few), serve(b, many)
	b.Run("pathinfo/embedded", func(b *testing.B) {
		benchmarkLookup(b, lookPathInfo(b, few.PathInfos), lookPathInfo(b, many.PathInfos))
	})
	b.Run("pathinfo/grpc", func(b *testing.B) {
		benchmarkLookup(b, lookPathInfo(b, fewServed.PathInfos()), lookPathInfo(b, manyServed.PathInfos()))
	})
	b.Run("directory/embedded", func(b *testing.B) {
		benchmarkLookup(b, lookDirectory(b, few.Directories), lookDirectory(b, many.Directories))
	})
	b.Run("directory/grpc", func(b *testing.B) {
		benchmarkLookup(b, lookDirectory(b, fewServed.Directories()), lookDirectory(b, manyServed.Directories()))
	})
}

func lookPathInfo(b *testing.B, s pathinfo.Service) func(i int) {
	return func(i int) {
		if _, err := s.Get(b.Context(), Path(i).Hash); err != nil {
			b.Fatal(err)
		}
	}
}

func lookDirectory(b *testing.B, s castore.DirectoryService) func(i int) {
	return func(i int) {
		d, err := Directory(i)
		if err == nil {
			_, err = s.Get(b.Context(), d.Digest())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkLookup(b *testing.B, few, many func(i int)) {
	var took [2]time.Duration
	for b.Loop() {
		begin := time.Now()
		few(rand.IntN(fewPaths))
		between := time.Now()
		many(rand.IntN(manyPaths))
		took[0] += between.Sub(begin)
		took[1] += time.Since(between)
	}
	n := float64(b.N)
	b.ReportMetric(0, "ns/op") // that of both together
	b.ReportMetric(n/took[0].Seconds(), "1k-lookups/s")
	b.ReportMetric(n/took[1].Seconds(), "1M-lookups/s")
	b.ReportMetric(float64(took[1])/float64(took[0]), "1M/1k")
}
