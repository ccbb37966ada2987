package fileblobs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/staging"
)

// newFile makes an empty file in the staging directory.
func (s *Store) newFile() (*os.File, uint64, error) {
	st, err := s.stagingDir()
	if err != nil {
		return nil, 0, fmt.Errorf("write blob: %w", err)
	}
	f, number, err := st.Create()
	if err != nil {
		return nil, 0, fmt.Errorf("write blob: %w", err)
	}
	return f, number, nil
}

// stagingDir is this process's staging directory, which it makes if need be.
func (s *Store) stagingDir() (*staging.Dir, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("the store is closed")
	}
	if s.staging == nil {
		if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
			s.newDir = true
		}
		err := spread(filepath.Join(s.dir, staging.Name))
		var st *staging.Dir
		if err == nil {
			st, err = staging.New(s.dir)
		}
		if err != nil {
			return nil, fmt.Errorf("make a staging directory: %w", err)
		}
		s.staging = st
	}
	return s.staging, nil
}

// stage takes over a closed file of the staging directory as the blob d, and
// returns how many are staged.
func (s *Store) stage(d castore.Digest, number uint64) (staged int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, errors.New("write blob: the store is closed")
	}
	if _, ok := s.staged[d]; ok { // another writer was faster
		return len(s.staged), os.Remove(s.staging.Path(number))
	}
	s.staged[d] = number
	return len(s.staged), nil
}
