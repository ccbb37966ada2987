package fileblobs

import (
	"context"
	"errors"
	"os"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/blobpack"
)

const (
	// packsName is the directory of packs in the store.
	packsName = "packs"
	// fewBlobs is how many small blobs at a flush are plain files all the same:
	// a pack is for many.
	fewBlobs = 32
	// packSize and packBlobs are at how many bytes or blobs a pack is brought
	// to the disk by itself.
	packSize  = 256 << 20
	packBlobs = 16 * maxStaged
	// mergeLimit is up to which size packs are merged after a flush, in bytes:
	// it takes a second. The rest is left to [Store.Tidy].
	mergeLimit = 256 << 20
)

// packing is a pack that takes blobs.
type packing struct {
	writer *blobpack.Writer
	path   string // of its file, once it has one
}

// pack puts a small blob into the open pack.
func (s *Store) pack(ctx context.Context, d castore.Digest, b []byte) error {
	for {
		p, err := s.openPack()
		if err != nil {
			return err
		}
		size, err := p.writer.Append(d, b)
		switch {
		case errors.Is(err, blobpack.ErrSealed): // by a flush, in this moment
			continue
		case err != nil:
			return err
		}
		// The share of what a pack may have, as staged files are counted.
		share := max(float64(size)/packSize, float64(p.writer.Len())/packBlobs)
		return s.flushSome(ctx, int(share*float64(s.limit)))
	}
}

// openPack is the pack that takes blobs.
func (s *Store) openPack() (*packing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("write blob: the store is closed")
	}
	if s.open == nil {
		p := &packing{}
		p.writer = blobpack.NewWriter(func() (*os.File, error) {
			f, err := s.packFile()
			if err == nil {
				p.path = f.Name()
			}
			return f, err
		})
		s.open = p
	}
	return s.open, nil
}

// packFile makes a staged file for reading and writing.
func (s *Store) packFile() (*os.File, error) {
	st, err := s.stagingDir()
	if err != nil {
		return nil, err
	}
	f, number, err := st.Create()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return os.OpenFile(st.Path(number), os.O_RDWR, 0)
}

// seal brings a pack to the disk and gives it its name. The blobs of one that
// has few become plain files, which are added to staged.
func (s *Store) seal(p *packing, staged map[castore.Digest]uint64) error {
	if few, ok := p.writer.Few(fewBlobs); ok {
		for d, b := range few {
			f, number, err := s.newFile()
			if err != nil {
				return err
			}
			_, err = f.Write(b)
			if err = errors.Join(err, f.Close()); err != nil {
				return err
			}
			s.mu.Lock()
			s.staged[d], staged[d] = number, number
			s.mu.Unlock()
		}
		return nil
	}
	if err := p.writer.Seal(); err != nil {
		return err
	}
	if err := s.packs.Add(p.path, p.writer); err != nil {
		return err
	}
	s.mu.Lock()
	s.unsavedPack = true
	s.mu.Unlock()
	return nil
}
