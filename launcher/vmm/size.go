package vmm

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is an amount of memory in bytes. As a flag it takes what
// cloud-hypervisor's size= does: a number of bytes, or one with the suffix K,
// M, G or T for powers of 1024.
type Size uint64

const mib = 1 << 20

// ParseSize parses s and checks that a guest can have that much.
func ParseSize(s string) (Size, error) {
	digits := strings.TrimRight(s, "kKmMgGtT")
	shift := 0
	switch suffix := strings.ToUpper(s[len(digits):]); suffix {
	case "":
	case "K", "M", "G", "T":
		shift = 10 * (1 + strings.Index("KMGT", suffix))
	default:
		return 0, errors.New("more than one suffix (want a number with K, M, G or T)")
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, errors.New("not a size (want a number with K, M, G or T, such as 512M)")
	}
	if n > math.MaxInt64>>shift {
		return 0, errors.New("too large")
	}
	size := Size(n << shift)
	if shift == 0 && size < MinMemory {
		return 0, fmt.Errorf("%d bytes are too little: did you mean %dM?", n, n)
	}
	return size, size.check()
}

func (s Size) check() error {
	switch {
	case s < MinMemory:
		return fmt.Errorf("memory of %s is too little: want %s or more", s, Size(MinMemory))
	case s%mib != 0:
		return fmt.Errorf("memory of %d bytes: want whole MiB", uint64(s))
	case s > 1<<46: // the physical addresses of today's processors
		return fmt.Errorf("memory of %s is too large", s)
	}
	return nil
}

// String is s as [ParseSize] and the monitors read it.
func (s Size) String() string {
	switch {
	case s > 0 && s%(1<<30) == 0:
		return strconv.FormatUint(uint64(s>>30), 10) + "G"
	case s > 0 && s%mib == 0:
		return strconv.FormatUint(uint64(s>>20), 10) + "M"
	}
	return strconv.FormatUint(uint64(s), 10)
}

// Set makes Size a flag.
func (s *Size) Set(text string) error {
	v, err := ParseSize(text)
	if err != nil {
		return err
	}
	*s = v
	return nil
}

// Type is the placeholder in help texts.
func (s *Size) Type() string { return "SIZE" }
