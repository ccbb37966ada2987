package virtqueue

// bitmap is a set of chain heads.
type bitmap []uint64

func newBitmap(size int) bitmap { return make(bitmap, (size+63)/64) }

func (b bitmap) get(i uint16) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b bitmap) set(i uint16)      { b[i/64] |= 1 << (i % 64) }

// clear takes i out; one that cannot be in the set is ignored.
func (b bitmap) clear(i uint16) {
	if int(i/64) < len(b) {
		b[i/64] &^= 1 << (i % 64)
	}
}
