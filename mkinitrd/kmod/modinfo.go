package kmod

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxModinfo is the largest .modinfo section that is read; the largest real
// ones, of network drivers with hundreds of aliases, have 100 KiB.
const maxModinfo = 4 << 20

// Info is what a module says of itself in its section .modinfo, of which it is
// the one source that no depmod has to have read.
type Info struct {
	VerMagic string   // "6.1.0-56-cloud-amd64 SMP preempt mod_unload modversions "
	Depends  []string // modules, in the kernel's form
	Firmware []string // files below the firmware directory that it may ask for
}

// ReadInfo reads the information of the module whose uncompressed file is
// given. A module without any has the zero Info.
func ReadInfo(module []byte) (Info, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return Info{}, fmt.Errorf("read .modinfo: %w", err)
	}
	s := f.Section(".modinfo")
	if s == nil || s.Type == elf.SHT_NOBITS {
		return Info{}, nil
	}
	if s.Size > maxModinfo {
		return Info{}, fmt.Errorf("read .modinfo: more than %d MiB", maxModinfo>>20)
	}
	b := make([]byte, s.Size)
	if n, err := s.ReadAt(b, 0); n < len(b) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Info{}, fmt.Errorf("read .modinfo: %w", err)
	}
	var i Info
	for word := range strings.SplitSeq(string(b), "\x00") {
		key, value, ok := strings.Cut(word, "=")
		switch {
		case !ok || value == "":
		case key == "vermagic":
			i.VerMagic = value
		case key == "firmware":
			i.Firmware = append(i.Firmware, value)
		case key == "depends":
			for name := range strings.SplitSeq(value, ",") {
				i.Depends = append(i.Depends, Canonical(name))
			}
		}
	}
	return i, nil
}
