package cli

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Size is a flag of a number of bytes, above 0, which may have K, M, G or T
// behind it for powers of 1024. It is a pflag.Value.
type Size int64

var errSize = errors.New("want a number of bytes above 0, or one with K, M, G or T behind it")

func (s *Size) String() string {
	n, unit := int64(*s), ""
	for _, u := range []string{"K", "M", "G", "T"} {
		if n == 0 || n%1024 != 0 {
			break
		}
		n, unit = n/1024, u
	}
	return strconv.FormatInt(n, 10) + unit
}

func (s *Size) Type() string { return "SIZE" }

func (s *Size) Set(text string) error {
	digits, shift := text, 0
	for i, unit := range []string{"K", "M", "G", "T"} {
		if rest, ok := strings.CutSuffix(text, unit); ok {
			digits, shift = rest, 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n == 0 || n > math.MaxInt64>>shift {
		return errSize
	}
	*s = Size(n << shift)
	return nil
}
