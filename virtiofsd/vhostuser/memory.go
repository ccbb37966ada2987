package vhostuser

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/virtqueue"
)

const (
	// MaxMemSlots is the most memory regions of a guest that we map.
	MaxMemSlots = 64
	// MaxMemory is the most memory of a guest that we map, in bytes: all
	// connections share 128 TiB of addresses.
	MaxMemory = 1 << 42
)

// MemoryRegion is a region as the front end describes it.
type MemoryRegion struct {
	GuestAddr, Size, UserAddr uint64
	Offset                    uint64 // in the file of its descriptor
}

const memoryRegionSize = 32

func parseMemoryRegion(b []byte) MemoryRegion {
	return MemoryRegion{
		GuestAddr: binary.LittleEndian.Uint64(b[0:]),
		Size:      binary.LittleEndian.Uint64(b[8:]),
		UserAddr:  binary.LittleEndian.Uint64(b[16:]),
		Offset:    binary.LittleEndian.Uint64(b[24:]),
	}
}

// mapping is a mapped region.
type mapping struct {
	region MemoryRegion
	whole  []byte // what was mapped: from a page boundary to one
	guest  []byte // the region within
	tables atomic.Int32
}

// release is called by a table that goes.
func (m *mapping) release() {
	if m.tables.Add(-1) == 0 {
		_ = unix.Munmap(m.whole)
	}
}

// mapRegion maps r from fd, which stays the caller's. Pages beyond the end of
// the file would be fatal to touch, so the file has to be long enough.
func mapRegion(r MemoryRegion, fd int) (*mapping, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("stat memory region: %w", err)
	}
	if r.Size == 0 || r.Size > MaxMemory || r.Offset > 1<<62 || st.Size < 0 || r.Offset+r.Size > uint64(st.Size) {
		return nil, fmt.Errorf("memory region of %d bytes at offset %d of a file of %d bytes", r.Size, r.Offset, st.Size)
	}
	// In a file of huge pages only whole huge pages can be mapped; its block
	// size says how large they are.
	page := uint64(unix.Getpagesize())
	if b := uint64(st.Blksize); b > page && b&(b-1) == 0 && b <= 1<<30 {
		page = b
	}
	start := r.Offset &^ (page - 1)
	end := (r.Offset + r.Size + page - 1) &^ (page - 1)
	whole, err := unix.Mmap(fd, int64(start), int(end-start), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map memory region of %d bytes: %w", r.Size, err)
	}
	from := r.Offset - start
	return &mapping{region: r, whole: whole, guest: whole[from : from+r.Size : from+r.Size]}, nil
}

// table is a memory table, and who uses it: the connection while it is the
// current one, and the requests that began with it.
type table struct {
	memory   *virtqueue.Memory
	mappings []*mapping
	users    atomic.Int32
}

func newTable(mappings []*mapping) (*table, error) {
	var regions []virtqueue.Region
	total := uint64(0)
	for _, m := range mappings {
		if total += m.region.Size; total > MaxMemory {
			return nil, fmt.Errorf("more than %d bytes of guest memory", uint64(MaxMemory))
		}
		regions = append(regions, virtqueue.Region{GuestAddr: m.region.GuestAddr, UserAddr: m.region.UserAddr, Data: m.guest})
	}
	memory, err := virtqueue.NewMemory(regions)
	if err != nil {
		return nil, err
	}
	for _, m := range mappings {
		m.tables.Add(1)
	}
	t := &table{memory: memory, mappings: mappings}
	t.retain()
	return t, nil
}

func (t *table) retain() { t.users.Add(1) }

// release unmaps what no table has any more, when nobody uses this one.
func (t *table) release() {
	if t.users.Add(-1) > 0 {
		return
	}
	for _, m := range t.mappings {
		m.release()
	}
}

// memoryMap is the memory table of a connection.
type memoryMap struct {
	table *table // nil while there are no regions
}

func (m *memoryMap) mappings() []*mapping {
	if m.table == nil {
		return nil
	}
	return m.table.mappings
}

// replace makes a table of mappings, of which it takes over those that are
// fresh, in no other table. On error the old one stays.
func (m *memoryMap) replace(mappings []*mapping, fresh ...*mapping) error {
	var t *table
	if len(mappings) > 0 {
		var err error
		if t, err = newTable(mappings); err != nil {
			unmapAll(fresh)
			return err
		}
	}
	if m.table != nil {
		m.table.release()
	}
	m.table = t
	return nil
}

func unmapAll(mappings []*mapping) {
	for _, m := range mappings {
		_ = unix.Munmap(m.whole)
	}
}

// set handles SET_MEM_TABLE: a whole new table.
func (t *memoryMap) set(m *message) error {
	if len(m.payload) < 8 {
		return m.size(8)
	}
	n := int(binary.LittleEndian.Uint32(m.payload))
	if n < 1 || n > MaxMemSlots {
		return fmt.Errorf("%d memory regions, want 1 to %d", n, MaxMemSlots)
	}
	// cloud-hypervisor and QEMU send what the regions need; older ones the
	// whole structure of eight.
	if want := 8 + n*memoryRegionSize; len(m.payload) < want {
		return m.size(want)
	}
	if len(m.fds) != n {
		return fmt.Errorf("%d descriptors for %d memory regions", len(m.fds), n)
	}
	var mappings []*mapping
	for i, fd := range m.fds {
		mp, err := mapRegion(parseMemoryRegion(m.payload[8+i*memoryRegionSize:]), fd)
		if err != nil {
			unmapAll(mappings)
			return err
		}
		mappings = append(mappings, mp)
	}
	return t.replace(mappings, mappings...)
}

// add handles ADD_MEM_REG.
func (t *memoryMap) add(m *message) error {
	if err := m.size(8 + memoryRegionSize); err != nil {
		return err
	}
	if len(t.mappings()) == MaxMemSlots {
		return fmt.Errorf("more than %d memory regions", MaxMemSlots)
	}
	if len(m.fds) != 1 {
		return fmt.Errorf("%d descriptors, want 1", len(m.fds))
	}
	mp, err := mapRegion(parseMemoryRegion(m.payload[8:]), m.fds[0])
	if err != nil {
		return err
	}
	return t.replace(append(slices.Clone(t.mappings()), mp), mp)
}

// remove handles REM_MEM_REG, which names the region by its addresses and size.
func (t *memoryMap) remove(m *message) error {
	if err := m.size(8 + memoryRegionSize); err != nil {
		return err
	}
	r := parseMemoryRegion(m.payload[8:])
	i := slices.IndexFunc(t.mappings(), func(mp *mapping) bool {
		return mp.region.GuestAddr == r.GuestAddr && mp.region.UserAddr == r.UserAddr && mp.region.Size == r.Size
	})
	if i < 0 {
		return fmt.Errorf("no memory region at %#x of %d bytes", r.GuestAddr, r.Size)
	}
	return t.replace(slices.Delete(slices.Clone(t.mappings()), i, i+1))
}
