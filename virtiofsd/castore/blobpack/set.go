package blobpack

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/staging"
)

// Set is a directory of packs, which need not exist. Several processes may use
// it at once. Its methods may be called by several goroutines at once.
type Set struct {
	dir string

	// mu guards what is below, and refs of the packs.
	mu    sync.RWMutex
	packs []*pack
	bad   error // why a pack cannot be opened
	// The directory's time when it was listed, and whether it was so young
	// that something may have been added in the same tick.
	seen  time.Time
	young bool
}

// tick is more than the resolution of a directory's time.
const tick = 20 * time.Millisecond

// NewSet opens the packs in dir when they are first needed.
func NewSet(dir string) *Set { return &Set{dir: dir, young: true} }

// search looks for a blob in the packs that are known, and holds the pack.
func (s *Set) search(d castore.Digest) (*pack, int, entry, error) {
	s.mu.RLock()
	list := s.packs
	for _, p := range list {
		i, e, ok, err := p.find(d)
		if err != nil {
			s.mu.RUnlock()
			return nil, 0, entry{}, err
		}
		if !ok {
			continue
		}
		s.mu.RUnlock()
		s.mu.Lock()
		held := p.refs > 0
		if held {
			p.refs++
		}
		s.mu.Unlock()
		if !held { // it was replaced in this moment
			return s.search(d)
		}
		return p, i, e, nil
	}
	s.mu.RUnlock()
	return nil, 0, entry{}, nil
}

// find looks for a blob and holds the pack that it is in; nil if it is in none.
func (s *Set) find(d castore.Digest) (*pack, int, entry, error) {
	p, i, e, err := s.search(d)
	if p != nil || err != nil {
		return p, i, e, err
	}
	changed, err := s.refresh()
	if changed && err == nil {
		p, i, e, err = s.search(d)
	}
	if p == nil && err == nil {
		s.mu.RLock()
		err = s.bad
		s.mu.RUnlock()
	}
	return p, i, e, err
}

// release gives up a pack that find held.
func (s *Set) release(p *pack) {
	s.mu.Lock()
	p.refs--
	last := p.refs == 0
	s.mu.Unlock()
	if last {
		p.close()
	}
}

// refresh lists the directory if it has changed.
func (s *Set) refresh() (changed bool, err error) {
	info, err := os.Stat(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list packs: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.young && s.seen.Equal(info.ModTime()) {
		return false, nil
	}
	for {
		again, err := s.list()
		if err != nil {
			return false, fmt.Errorf("list packs: %w", err)
		}
		if !again {
			break
		}
	}
	s.seen, s.young = info.ModTime(), time.Since(info.ModTime()).Abs() < tick
	return true, nil
}

// list opens packs that are new and gives up those that are gone. One that was
// gone when it was to be opened has been replaced: then list is to be called
// again.
func (s *Set) list() (again bool, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return false, err
	}
	known := map[string]*pack{}
	for _, p := range s.packs {
		known[p.path] = p
	}
	var packs []*pack
	s.bad = nil
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), packSuffix)
		if !ok {
			continue
		}
		path := filepath.Join(s.dir, name)
		if p := known[path]; p != nil {
			delete(known, path)
			packs = append(packs, p)
			continue
		}
		p, err := openPack(path + packSuffix)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			again = true
		case err != nil:
			s.bad = fmt.Errorf("%w; its blobs cannot be read: put it back from a backup, or remove it, run 'virtiofsd verify' and store again what that names", err)
		default:
			packs = append(packs, p)
		}
	}
	for _, p := range known {
		if p.refs--; p.refs == 0 {
			p.close()
		}
	}
	s.packs = packs
	return again, nil
}

// Open opens a blob; nil if it is in no pack.
func (s *Set) Open(d castore.Digest) (castore.Blob, error) {
	p, i, e, err := s.find(d)
	if p == nil || err != nil {
		return nil, err
	}
	return &blob{set: s, pack: p, number: i, entry: e}, nil
}

// Has looks for a blob and notes that it is in use.
func (s *Set) Has(d castore.Digest) (bool, error) {
	for {
		p, i, _, err := s.find(d)
		if p == nil || err != nil {
			return false, err
		}
		done, err := s.touch(p, i)
		s.release(p)
		if done || err != nil {
			return done, err
		}
	}
}

// touch notes that a blob is in use. It returns false if the blob was removed or
// its pack was replaced meanwhile.
func (s *Set) touch(p *pack, i int) (bool, error) {
	t, err := p.usedAt(i)
	if err != nil {
		return false, err
	}
	if t != removed && time.Since(p.usedTime(t)).Abs() < castore.UsedSlack {
		return true, nil
	}
	dir, err := staging.OpenLocked(s.dir, unix.LOCK_SH)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	current, err := p.current()
	if err == nil && !current {
		s.stale()
		_, err = s.refresh()
	}
	if err != nil || !current {
		return false, err
	}
	if t, err = p.usedAt(i); err != nil || t == removed {
		return false, err
	}
	err = p.setUsed(i, uint32(time.Now().Unix()))
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EBADF) {
		err = nil // who cannot write here cannot store a reference either
	}
	return err == nil, err
}

// Add takes over the pack of a writer that is sealed, in the file at path.
func (s *Set) Add(path string, w *Writer) error {
	now := uint32(time.Now().Unix())
	return s.add(path, encodeUses(slices.Repeat([]uint32{now}, w.Len())))
}

// add renames a pack that is on the disk into the directory.
func (s *Set) add(path string, uses []byte) error {
	if err := os.Mkdir(s.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("add pack: %w", err)
	}
	// So that nobody takes the file of uses for one without a pack.
	dir, err := staging.OpenLocked(s.dir, unix.LOCK_SH)
	if err != nil {
		return fmt.Errorf("add pack: %w", err)
	}
	defer dir.Close()
	if err := s.put(path, uses); err != nil {
		return fmt.Errorf("add pack: %w", err)
	}
	_, err = s.refresh()
	return err
}

// put gives a pack its name. The directory is locked.
func (s *Set) put(path string, uses []byte) error {
	var random [12]byte
	_, _ = rand.Read(random[:]) // never fails
	name := filepath.Join(s.dir, hex.EncodeToString(random[:]))
	err := os.WriteFile(name+usedSuffix, uses, 0o644)
	if err == nil {
		err = os.Rename(path, name+packSuffix)
	}
	if err != nil {
		_ = os.Remove(name + usedSuffix)
		return err
	}
	s.stale()
	return nil
}

// stale has the next refresh list the directory, whatever its time.
func (s *Set) stale() {
	s.mu.Lock()
	s.young = true
	s.mu.Unlock()
}

// Dir is the directory, which the caller brings to the disk after Add.
func (s *Set) Dir() string { return s.dir }

// Close closes the packs; blobs that are open stay readable.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.packs {
		if p.refs--; p.refs == 0 {
			p.close()
		}
	}
	s.packs, s.young = nil, true
}
