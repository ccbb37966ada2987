package uki

import (
	"debug/pe"
	"errors"
	"fmt"
	"io"
)

// ErrNotUKI says that a file is no UEFI program of any kind.
var ErrNotUKI = errors.New("no unified kernel image")

// align is the alignment of the parts of an initrd, as the stub gives them to
// the kernel.
const align = 4

// Initrd returns the initrd of a unified kernel image, as its stub gives it to
// the kernel: the sections .ucode and .initrd. The error is [ErrNotUKI] for a
// file that is no UEFI program. Nothing of the file is trusted.
func Initrd(r io.ReaderAt) (io.Reader, error) {
	head := make([]byte, 2)
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if string(head) != "MZ" {
		return nil, ErrNotUKI
	}
	f, err := pe.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("unified kernel image: %w", err)
	}
	var parts []io.Reader
	for _, name := range []string{".ucode", ".initrd"} {
		s := f.Section(name)
		if s == nil {
			continue
		}
		if s.VirtualSize > s.Size {
			return nil, fmt.Errorf("unified kernel image: section %s has %d bytes in the file, and says that it has %d", name, s.Size, s.VirtualSize)
		}
		pad := -int64(s.VirtualSize) & (align - 1)
		parts = append(parts, &whole{r: io.NewSectionReader(r, int64(s.Offset), int64(s.VirtualSize)), left: int64(s.VirtualSize)}, io.LimitReader(zeros{}, pad))
	}
	if len(parts) == 0 {
		return nil, errors.New("is a UEFI program, a kernel or boot loader, that has no initrd in it")
	}
	return io.MultiReader(parts...), nil
}

// whole takes the end of the file for an error, where more was to come.
type whole struct {
	r    io.Reader
	left int64
}

func (w *whole) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.left -= int64(n)
	if errors.Is(err, io.EOF) && w.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
