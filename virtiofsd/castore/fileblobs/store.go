package fileblobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/blobpack"
	"storeboot/virtiofsd/staging"
)

// Store is the blob service. Create one with [Open].
type Store struct {
	dir string

	// flushing is held during a flush, so that its end means that the names
	// are on the disk. It is taken before mu.
	flushing sync.Mutex

	// flushes are those that began by themselves. None begins once closed.
	flushes sync.WaitGroup

	// mu guards what is below.
	mu      sync.Mutex
	staging *staging.Dir // nil before the first write
	staged  map[castore.Digest]uint64
	open    *packing  // takes small blobs; nil at first
	sealing *packing  // is being brought to the disk by a flush
	unsaved [256]bool // shards with names that may not be on the disk yet
	// unsavedPack says the same of the directory of packs.
	unsavedPack bool
	newDir      bool  // dir itself was made since the last flush
	broken      error // the first failed write to the disk
	closed      bool
	// background says that one of flushes is under way.
	background bool

	limit int // of staged; [maxStaged] but in tests

	packs  *blobpack.Set
	proofs proofs

	buffers sync.Pool // of *[]byte with capacity bufferSize
}

// Open opens the store in dir. The directory is made when the first blob is
// written.
func Open(dir string) (castore.BlobService, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open blobs %s: %w", dir, err)
	}
	switch info, err := os.Stat(abs); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open blobs: %w", err)
	case !info.IsDir():
		return nil, fmt.Errorf("open blobs: %s is not a directory", dir)
	}
	return &Store{
		dir:     abs,
		limit:   maxStaged,
		staged:  map[castore.Digest]uint64{},
		packs:   blobpack.NewSet(filepath.Join(abs, packsName)),
		buffers: sync.Pool{New: func() any { b := make([]byte, 0, bufferSize); return &b }},
	}, nil
}

// path is the name of a blob that is in the store for good.
func (s *Store) path(d castore.Digest) string { return s.shard(d) + "/" + d.Hex() }

// shard is the directory that path is in.
func (s *Store) shard(d castore.Digest) string { return s.dir + "/" + d.Hex()[:2] }

// Has implements [castore.BlobService].
func (s *Store) Has(ctx context.Context, d castore.Digest) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if d == castore.EmptyBlob {
		return true, nil
	}
	if s.isStaged(d) {
		return true, nil
	}
	// What was staged a moment ago may have its name now, never the other way.
	has, damaged := s.packs.Has(d) // an error of a pack: the blob may be elsewhere
	if has {
		s.mu.Lock()
		s.unsavedPack = true // the caller may refer to it after a Flush
		s.mu.Unlock()
		return true, nil
	}
	info, err := os.Lstat(s.path(d))
	there := false
	if errors.Is(err, fs.ErrNotExist) {
		err = damaged
		info = nil
	}
	if err == nil && info != nil {
		there, err = s.touch(d, info.ModTime())
	}
	if err != nil {
		return false, fmt.Errorf("look for blob %s: %w", d, err)
	}
	if !there {
		return false, nil
	}
	s.mu.Lock()
	s.unsaved[d[0]] = true // the caller may refer to it after a Flush
	s.mu.Unlock()
	return true, nil
}

// Open implements [castore.BlobService]. The blob is a [castore.FileBlob].
func (s *Store) Open(ctx context.Context, d castore.Digest) (castore.Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if d == castore.EmptyBlob {
		f, err := os.Open(os.DevNull) // its first 0 bytes
		if err != nil {
			return nil, fmt.Errorf("open blob %s: %w", d, err)
		}
		return &blob{file: f}, nil
	}
	b, err := s.packs.Open(d)
	if b != nil {
		return b, nil
	}
	damaged := err // of a pack: the blob may be elsewhere
	f, err := os.OpenFile(s.path(d), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if b, err = s.openStaged(d); b != nil {
			return b, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) && damaged != nil {
		err = damaged
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open blob %s: %w", d, castore.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	return s.newBlob(f, d)
}

// openStaged opens a blob that was not under its name a moment ago.
func (s *Store) openStaged(d castore.Digest) (castore.Blob, error) {
	s.mu.Lock()
	number, ok := s.staged[d]
	st, open, sealing := s.staging, s.open, s.sealing
	s.mu.Unlock()
	for _, p := range []*packing{open, sealing} {
		if p == nil {
			continue
		}
		if b, err := p.writer.Open(d); b != nil || err != nil {
			return b, err
		}
	}
	path := s.path(d)
	if ok {
		f, err := os.Open(st.Path(number))
		if err == nil {
			return s.newBlob(f, d)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	} else if b, err := s.packs.Open(d); b != nil || err != nil {
		return b, err
	}
	// It has its name by now, if it is there at all.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	return s.newBlob(f, d)
}

// isStaged says whether the blob was stored by this process and may have no name
// yet.
func (s *Store) isStaged(d castore.Digest) bool {
	s.mu.Lock()
	_, staged := s.staged[d]
	open, sealing := s.open, s.sealing
	s.mu.Unlock()
	return staged || open != nil && open.writer.Has(d) || sealing != nil && sealing.writer.Has(d)
}

// Close drops what was not flushed.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.flushes.Wait()
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.staged)
	if s.open != nil {
		s.open.writer.Drop()
		s.open = nil
	}
	s.packs.Close()
	if s.staging == nil {
		return nil
	}
	st := s.staging
	s.staging = nil
	if err := st.Remove(); err != nil {
		return fmt.Errorf("close blobs: %w", err)
	}
	return nil
}
