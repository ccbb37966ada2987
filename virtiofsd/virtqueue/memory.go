package virtqueue

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrInvalid is what every error of a broken ring, chain or address wraps.
var ErrInvalid = errors.New("invalid virtqueue")

// Region is a piece of guest memory that is mapped here.
type Region struct {
	GuestAddr uint64 // where the guest's physical memory has it
	UserAddr  uint64 // where the VMM's address space has it
	Data      []byte // our mapping
}

// Memory is guest memory: a set of regions, none of which overlap. It is
// immutable.
type Memory struct {
	regions []Region // in the order of GuestAddr
}

// NewMemory checks regions: none may be empty, wrap around, or overlap another
// in guest addresses.
func NewMemory(regions []Region) (*Memory, error) {
	sorted := slices.Clone(regions)
	slices.SortFunc(sorted, func(a, b Region) int { return cmp.Compare(a.GuestAddr, b.GuestAddr) })
	for i, r := range sorted {
		n := uint64(len(r.Data))
		if n == 0 || r.GuestAddr > math.MaxUint64-n || r.UserAddr > math.MaxUint64-n {
			return nil, fmt.Errorf("%w: memory region at %#x of %d bytes", ErrInvalid, r.GuestAddr, n)
		}
		if i > 0 && sorted[i-1].GuestAddr+uint64(len(sorted[i-1].Data)) > r.GuestAddr {
			return nil, fmt.Errorf("%w: memory regions at %#x and %#x overlap", ErrInvalid, sorted[i-1].GuestAddr, r.GuestAddr)
		}
	}
	return &Memory{regions: sorted}, nil
}

// Regions returns the regions in the order of their guest addresses. The
// caller must not change them.
func (m *Memory) Regions() []Region { return m.regions }

// appendGuest appends to dst the guest memory at addr of n bytes. Where it
// crosses from one region into the next it becomes two slices; a slice that
// continues the last one of dst is merged with it.
func (m *Memory) appendGuest(dst [][]byte, addr uint64, n uint32) ([][]byte, error) {
	for left := uint64(n); left > 0; {
		i, found := slices.BinarySearchFunc(m.regions, addr, func(r Region, a uint64) int { return cmp.Compare(r.GuestAddr, a) })
		if !found {
			i--
		}
		if i < 0 || addr-m.regions[i].GuestAddr >= uint64(len(m.regions[i].Data)) {
			return dst, fmt.Errorf("%w: no memory at guest address %#x", ErrInvalid, addr)
		}
		data := m.regions[i].Data[addr-m.regions[i].GuestAddr:]
		if uint64(len(data)) > left {
			data = data[:left]
		}
		dst = appendMerged(dst, data)
		addr += uint64(len(data))
		left -= uint64(len(data))
		if left > 0 && addr == 0 {
			return dst, fmt.Errorf("%w: address wraps around", ErrInvalid)
		}
	}
	return dst, nil
}

// appendMerged appends b to dst, or grows the last slice of dst if b lies right
// behind it in the same mapping (its capacity reaches to the mapping's end).
func appendMerged(dst [][]byte, b []byte) [][]byte {
	if k := len(dst) - 1; k >= 0 {
		last := dst[k]
		if cap(last)-len(last) >= len(b) && &last[:len(last)+1][len(last)] == &b[0] {
			dst[k] = last[:len(last)+len(b)]
			return dst
		}
	}
	return append(dst, b)
}

// user returns the memory at the VMM's address addr of n bytes, which must lie
// in one region.
func (m *Memory) user(what string, addr uint64, n, align int) ([]byte, error) {
	if addr%uint64(align) != 0 {
		return nil, fmt.Errorf("%w: %s at %#x is not aligned to %d", ErrInvalid, what, addr, align)
	}
	for _, r := range m.regions {
		if off := addr - r.UserAddr; addr >= r.UserAddr && off < uint64(len(r.Data)) && uint64(len(r.Data))-off >= uint64(n) {
			return r.Data[off : off+uint64(n)], nil
		}
	}
	return nil, fmt.Errorf("%w: %s at %#x of %d bytes is in no memory region", ErrInvalid, what, addr, n)
}
