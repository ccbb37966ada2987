package fastcdc

import (
	"fmt"
	"math"
)

const (
	// DefaultAverage is the chunk size that tvix and snix aim at, in bytes.
	DefaultAverage = 256 << 10
	// MinAverage and MaxAverage bound the average that [NewSizes] takes: half
	// of it may not be less than 64 bytes nor more than 1 MiB, the limits of
	// the implementation that snix uses.
	MinAverage = 256
	MaxAverage = 2 << 20
)

// Sizes are the lengths of chunks in bytes. Every chunk but the last of a
// stream has at least Min (one less if Min is odd); none has more than Max.
type Sizes struct{ Min, Average, Max int }

// NewSizes derives the sizes from an average, as tvix and snix do: half of it
// and twice of it.
func NewSizes(average int) (Sizes, error) {
	if average < MinAverage || average > MaxAverage {
		return Sizes{}, fmt.Errorf("average chunk size %d is not between %d and %d bytes", average, MinAverage, MaxAverage)
	}
	return Sizes{average / 2, average, average * 2}, nil
}

// masks are the bits of the gear hash that are zero at a cut, by the logarithm
// of the average: the more bits, the rarer. Spec/store.md 1.6.
var masks = [26]uint64{
	5:  0x0000000001804110,
	6:  0x0000000001803110,
	7:  0x0000000018035100,
	8:  0x0000001800035300,
	9:  0x0000019000353000,
	10: 0x0000590003530000,
	11: 0x0000d90003530000,
	12: 0x0000d90103530000,
	13: 0x0000d90303530000,
	14: 0x0000d90313530000,
	15: 0x0000d90f03530000,
	16: 0x0000d90303537000,
	17: 0x0000d90703537000,
	18: 0x0000d90707537000,
	19: 0x0000d91707537000,
	20: 0x0000d91747537000,
	21: 0x0000d91767537000,
	22: 0x0000d93767537000,
	23: 0x0000d93777537000,
	24: 0x0000d93777577000,
	25: 0x0000db3777577000,
}

// masks returns the mask for cuts before the average, which are rare, and the
// one for cuts after it.
func (s Sizes) masks() (early, late uint64) {
	bits := int(math.Round(math.Log2(float64(s.Average))))
	return masks[bits+1], masks[bits-1]
}
