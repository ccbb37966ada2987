package storecache

import (
	"context"
	"iter"
	"path/filepath"
	"slices"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/castore/fileblobs"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
	"storeboot/virtiofsd/sqlitestore"
)

func openFiles(t *testing.T) castore.BlobService {
	t.Helper()
	s, err := fileblobs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func openDatabase(t *testing.T) *sqlitestore.DB {
	t.Helper()
	db, err := sqlitestore.Open(filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestBlobs(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		castoretest.TestBlobs(t, func(*testing.T) castore.BlobService {
			return NewBlobs(castore.NewMemoryBlobs(), castore.NewMemoryBlobs(), nil)
		})
	})
	t.Run("files", func(t *testing.T) {
		castoretest.TestBlobs(t, func(t *testing.T) castore.BlobService {
			return NewBlobs(openFiles(t), castore.NewMemoryBlobs(), nil)
		})
	})
	t.Run("all from far", func(t *testing.T) {
		castoretest.TestBlobs(t, func(*testing.T) castore.BlobService {
			far := castore.NewMemoryBlobs()
			return writeThrough{NewBlobs(castore.NewMemoryBlobs(), far, nil), far}
		})
	})
}

// writeThrough puts into far what a cache reads.
type writeThrough struct {
	castore.BlobService
	far castore.BlobService
}

func (s writeThrough) Create(ctx context.Context) (castore.BlobWriter, error) {
	return s.far.Create(ctx)
}

func TestDirectories(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		castoretest.TestDirectories(t, func(*testing.T) castore.DirectoryService {
			return NewDirectories(castore.NewMemoryDirectories(), castore.NewMemoryDirectories(), nil)
		})
	})
	t.Run("database", func(t *testing.T) {
		castoretest.TestDirectories(t, func(t *testing.T) castore.DirectoryService {
			return NewDirectories(openDatabase(t).Directories(), castore.NewMemoryDirectories(), nil)
		})
	})
	t.Run("all from far", func(t *testing.T) {
		castoretest.TestDirectories(t, func(*testing.T) castore.DirectoryService {
			far := castore.NewMemoryDirectories()
			return directoriesThrough{NewDirectories(castore.NewMemoryDirectories(), far, nil), far}
		})
	})
	t.Run("trees too large to fetch", func(t *testing.T) {
		castoretest.TestDirectories(t, func(*testing.T) castore.DirectoryService {
			far := castore.NewMemoryDirectories()
			s := NewDirectories(castore.NewMemoryDirectories(), far, nil).(*directories)
			s.maxTree = 1
			return directoriesThrough{s, far}
		})
	})
}

type directoriesThrough struct {
	castore.DirectoryService
	far castore.DirectoryService
}

func (s directoriesThrough) Put(ctx context.Context) (castore.DirectoryPutter, error) {
	return s.far.Put(ctx)
}

func TestPathInfos(t *testing.T) {
	t.Run("cache", func(t *testing.T) {
		pathinfotest.TestService(t, func(*testing.T) pathinfo.Service {
			return NewPathInfos(pathinfo.NewMemory(), pathinfo.NewMemory(), nil)
		})
	})
	t.Run("cache on a database", func(t *testing.T) {
		pathinfotest.TestService(t, func(t *testing.T) pathinfo.Service {
			return NewPathInfos(openDatabase(t).PathInfos(), pathinfo.NewMemory(), nil)
		})
	})
	t.Run("lru", func(t *testing.T) {
		pathinfotest.TestService(t, func(t *testing.T) pathinfo.Service {
			s, err := NewLRU(100)
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
	t.Run("signing", func(t *testing.T) {
		pathinfotest.TestService(t, func(t *testing.T) pathinfo.Service {
			return stripped{NewSigning(pathinfo.NewMemory(), testKey(t))}
		})
	})
}

// stripped removes the signature of testKey from what the conformance suite
// sees, and is a failure if it is missing.
type stripped struct{ pathinfo.Service }

func strip(p *pathinfo.PathInfo) *pathinfo.PathInfo {
	if p == nil || p.NarSize == 0 {
		return p
	}
	out := *p
	n := len(p.Signatures) - 1
	if n < 0 || p.Signatures[n].Name != testKeyName {
		out.Signatures = []pathinfo.Signature{{Name: "the-signature-is-missing"}}
		return &out
	}
	out.Signatures = slices.Clone(p.Signatures[:n])
	return &out
}

func (s stripped) Get(ctx context.Context, h storepath.Hash) (*pathinfo.PathInfo, error) {
	p, err := s.Service.Get(ctx, h)
	return strip(p), err
}

func (s stripped) Put(ctx context.Context, p *pathinfo.PathInfo) (*pathinfo.PathInfo, error) {
	p, err := s.Service.Put(ctx, p)
	return strip(p), err
}

func (s stripped) List(ctx context.Context) iter.Seq2[*pathinfo.PathInfo, error] {
	return func(yield func(*pathinfo.PathInfo, error) bool) {
		for p, err := range s.Service.List(ctx) {
			if !yield(strip(p), err) {
				return
			}
		}
	}
}
