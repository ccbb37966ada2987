package kmod

import (
	"bufio"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxModule is the largest module that is unpacked: some GPU drivers have 30
// MiB, with debug information 300 MiB.
const maxModule = 1 << 30

// Read returns the module as the kernel loads it: uncompressed, with a
// signature if it has one, and otherwise unchanged.
func (m Module) Read() ([]byte, error) {
	data, err := readFile(m.File)
	if err != nil {
		return nil, fmt.Errorf("read module %s: %s: %w", m.Name, m.File, err)
	}
	if len(data) < 4 || string(data[:4]) != elf.ELFMAG {
		return nil, fmt.Errorf("read module %s: %s: not an ELF file", m.Name, m.File)
	}
	return data, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	br := bufio.NewReaderSize(f, 64<<10)
	head, _ := br.Peek(6)
	var r io.Reader = br
	switch {
	case len(head) >= 2 && head[0] == 0x1f && head[1] == 0x8b:
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, noEOF(err)
		}
		r = z
	case string(head) == "\xfd7zXZ\x00":
		// The library takes the end of the input inside the index for the
		// stream's end: look for the footer's magic.
		if err := checkFooter(f, "YZ"); err != nil {
			return nil, err
		}
		z, err := xz.NewReader(br)
		if err != nil {
			return nil, noEOF(err)
		}
		r = z
	case len(head) >= 4 && string(head[:4]) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModule))
		if err != nil {
			return nil, noEOF(err)
		}
		defer z.Close()
		r = z
	default:
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if st.Size() <= maxModule {
			data := make([]byte, st.Size())
			_, err := io.ReadFull(br, data)
			return data, noEOF(err)
		}
	}
	data, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, noEOF(err)
	}
	if len(data) > maxModule {
		return nil, fmt.Errorf("more than %d MiB", maxModule>>20)
	}
	return data, nil
}

func checkFooter(f *os.File, magic string) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, len(magic))
	if _, err := f.ReadAt(b, st.Size()-int64(len(b))); err != nil {
		return noEOF(err)
	}
	if string(b) != magic {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
