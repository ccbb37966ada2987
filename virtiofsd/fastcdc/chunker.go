package fastcdc

// Chunker finds the places of cuts. It has no state: one may serve any number
// of goroutines.
type Chunker struct {
	sizes       Sizes
	early, late uint64
	gear        *gearTable
}

// NewChunker makes a chunker of sizes that [NewSizes] made.
func NewChunker(sizes Sizes) *Chunker {
	c := &Chunker{sizes: sizes, gear: gear()}
	c.early, c.late = sizes.masks()
	return c
}

// Sizes are the sizes of the chunks.
func (c *Chunker) Sizes() Sizes { return c.sizes }

// Cut returns the length of the first chunk of data. Data is all that is left
// of the stream or at least the longest chunk, else the cut is not the one that
// the whole stream has. It is 0 for no data alone.
func (c *Chunker) Cut(data []byte) int {
	n := min(len(data), c.sizes.Max)
	if n <= c.sizes.Min {
		return n
	}
	normal := min(c.sizes.Average, n)
	// The hash takes in pairs of bytes. A place between the two of a pair is
	// tested with a mask one bit to the left.
	var h uint64
	first := c.sizes.Min &^ 1
	cut, h := c.scan(data, first, normal&^1, h, c.early)
	if cut < 0 {
		cut, _ = c.scan(data, normal&^1, n&^1, h, c.late)
	}
	if cut < 0 {
		return n
	}
	return cut
}

// scan looks for a cut in data[from:to], both even, and returns it, or -1 and
// the hash so far.
func (c *Chunker) scan(data []byte, from, to int, h, mask uint64) (int, uint64) {
	if from >= to {
		return -1, h
	}
	shiftedMask := mask << 1
	plain, shifted := &c.gear.plain, &c.gear.shifted
	part := data[from:to]
	for i := 0; i+1 < len(part); i += 2 {
		h = h<<2 + shifted[part[i]]
		if h&shiftedMask == 0 {
			return from + i, h
		}
		h += plain[part[i+1]]
		if h&mask == 0 {
			return from + i + 1, h
		}
	}
	return -1, h
}
