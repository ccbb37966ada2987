package virtqueue

import (
	"sync/atomic"
	"unsafe"
)

// logPage is how much guest memory one bit of a dirty log stands for.
const logPage = 4096

// DirtyLog is the front end's map of pages of guest memory that were written
// since it looked: bit n is page n, in words of 32 bits that it takes and clears
// while we set them. A page beyond its end is not noted.
type DirtyLog struct {
	words []uint32
}

// NewDirtyLog makes a log of b, which is aligned to 4 and outlasts it.
func NewDirtyLog(b []byte) *DirtyLog {
	if len(b) < 4 {
		return &DirtyLog{}
	}
	return &DirtyLog{unsafe.Slice((*uint32)(unsafe.Pointer(&b[0])), len(b)/4)}
}

// mark notes that n bytes at a guest address were written.
func (l *DirtyLog) mark(addr uint64, n int) {
	if n <= 0 {
		return
	}
	last := (addr + uint64(n) - 1) / logPage
	for page := addr / logPage; page <= last && page/32 < uint64(len(l.words)); page++ {
		if w, bit := &l.words[page/32], uint32(1)<<(page%32); atomic.LoadUint32(w)&bit == 0 {
			atomic.OrUint32(w, bit)
		}
	}
}

// markChain notes that the first n bytes of the writable part of c were
// written.
func (l *DirtyLog) markChain(c *Chain, n int) {
	for _, b := range c.Writable {
		k := min(n, len(b))
		if k <= 0 {
			return
		}
		if addr, ok := c.mem.guestAddr(&b[0]); ok { // a slice lies in one region
			l.mark(addr, k)
		}
		n -= k
	}
}

// guestAddr is the guest's address of a byte of a region.
func (m *Memory) guestAddr(p *byte) (addr uint64, ok bool) {
	at := uintptr(unsafe.Pointer(p))
	for _, r := range m.regions {
		begin := uintptr(unsafe.Pointer(&r.Data[0]))
		if at >= begin && at-begin < uintptr(len(r.Data)) {
			return r.GuestAddr + uint64(at-begin), true
		}
	}
	return 0, false
}
