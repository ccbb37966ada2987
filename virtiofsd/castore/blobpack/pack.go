package blobpack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"storeboot/virtiofsd/castore"
)

const (
	packSuffix = ".pack"
	usedSuffix = ".used"
	// removed is the time of use of a blob that is not there any more.
	removed = ^uint32(0)
	// keepAfter is after how many lookups an index is kept in memory, if it
	// has no more than keepEntries.
	keepAfter   = 64
	keepEntries = 128 << 10
)

// pack is an open pack.
type pack struct {
	path   string // without suffix
	file   *os.File
	used   atomic.Pointer[os.File] // nil if there is none
	time   time.Time
	index  index
	memory atomic.Pointer[[]byte] // the index, once it is kept
	looked atomic.Int32
	proven []atomic.Uint32 // a bit for each entry

	refs int // of blobs and of the set's list; guarded by the set
}

// openPack opens the pack with the path of its file.
func openPack(path string) (*pack, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	p := &pack{path: strings.TrimSuffix(path, packSuffix), file: f, refs: 1}
	info, err := f.Stat()
	if err == nil {
		p.time = info.ModTime()
		p.index, err = openIndex(f, info.Size())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open pack %s: %w", path, err)
	}
	p.proven = make([]atomic.Uint32, (p.index.count+31)/32)
	used, err := os.OpenFile(p.path+usedSuffix, os.O_RDWR, 0)
	if err != nil {
		used, err = os.Open(p.path + usedSuffix) // a store that cannot be written
	}
	if err == nil {
		p.used.Store(used)
	}
	return p, nil
}

func (p *pack) close() {
	p.file.Close()
	if used := p.used.Load(); used != nil {
		used.Close()
	}
}

// find looks for a blob that is not removed.
func (p *pack) find(d castore.Digest) (i int, e entry, ok bool, err error) {
	memory := p.memory.Load()
	if memory == nil && p.index.count <= keepEntries && p.looked.Add(1) > keepAfter {
		b, err := p.index.load()
		if err != nil {
			return 0, entry{}, false, p.damaged(err)
		}
		memory = &b
		p.memory.Store(memory)
	}
	if memory != nil {
		i, e, ok, err = p.index.match(*memory, search(*memory, d), 0, d)
	} else {
		i, e, ok, err = p.index.find(d)
	}
	if err != nil {
		return 0, entry{}, false, p.damaged(err)
	}
	if ok {
		var t uint32
		t, err = p.usedAt(i)
		ok = t != removed
	}
	return i, e, ok, err
}

func (p *pack) damaged(err error) error {
	return fmt.Errorf("look into pack %s: %w", p.path+packSuffix, err)
}

// usedAt is what the file of uses says of an entry; 0 if it says nothing.
func (p *pack) usedAt(i int) (uint32, error) {
	used := p.used.Load()
	if used == nil {
		return 0, nil
	}
	var b [4]byte
	n, err := used.ReadAt(b[:], int64(i)*4)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if n < len(b) {
		return 0, nil
	}
	return binary.LittleEndian.Uint32(b[:]), nil
}

// usedTime is when a blob was last used, not in the future of the pack's user.
func (p *pack) usedTime(t uint32) time.Time {
	if t == 0 {
		return p.time
	}
	return time.Unix(int64(t), 0)
}

// setUsed notes a time of use, or removed. The directory of packs is locked and
// the pack is current.
func (p *pack) setUsed(i int, t uint32) error {
	used := p.used.Load()
	if used == nil {
		var err error // lost in a power loss
		if used, err = os.OpenFile(p.path+usedSuffix, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
			return err
		}
		if !p.used.CompareAndSwap(nil, used) {
			used.Close()
			used = p.used.Load()
		}
	}
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], t)
	_, err := used.WriteAt(b[:], int64(i)*4)
	return err
}

// uses are the times of use of all entries.
func (p *pack) uses() ([]uint32, error) {
	list := make([]uint32, p.index.count)
	used := p.used.Load()
	if used == nil {
		return list, nil
	}
	b := make([]byte, 4*len(list))
	n, err := used.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for i := range n / 4 {
		list[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return list, nil
}

// encodeUses is the file of uses.
func encodeUses(list []uint32) []byte {
	b := make([]byte, 0, 4*len(list))
	for _, t := range list {
		b = binary.LittleEndian.AppendUint32(b, t)
	}
	return b
}

// current says whether the pack is still the one of its name.
func (p *pack) current() (bool, error) {
	now, err := os.Stat(p.path + packSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	mine, err := p.file.Stat()
	return err == nil && os.SameFile(now, mine), err
}
