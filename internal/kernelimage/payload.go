package kernelimage

import (
	"bytes"
	"compress/bzip2"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

const (
	// maxPayload is the largest kernel that is unpacked, in bytes; a vmlinux
	// without debugging information is below 100 MiB.
	maxPayload = 512 << 20
	// maxDictionary bounds the memory of an unpacker, in bytes; the kernel is
	// packed with dictionaries up to 128 MiB.
	maxDictionary = 128 << 20
)

// Payload returns the ELF file (vmlinux) that the bzImage in r unpacks when it
// starts: gzip, bzip2, lzma, xz, lz4 or zstd (boot protocol 2.08,
// payload_offset). The caller reads from the returned reader and need not close
// it. A kernel packed with LZO is refused.
func Payload(r io.ReaderAt) (io.Reader, error) {
	head := make([]byte, 0x250)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("unpack bzImage: %w", err)
	}
	le := binary.LittleEndian
	if string(head[0x202:0x206]) != "HdrS" || le.Uint16(head[0x206:]) < 0x208 {
		return nil, errors.New("unpack bzImage: not a bzImage of boot protocol 2.08 or later")
	}
	setup := int64(head[0x1f1])
	if setup == 0 {
		setup = 4
	}
	offset, length := (setup+1)*512+int64(le.Uint32(head[0x248:])), int64(le.Uint32(head[0x24c:]))
	packed := io.NewSectionReader(r, offset, length)
	magic := make([]byte, 6)
	if _, err := packed.ReadAt(magic, 0); err != nil {
		return nil, fmt.Errorf("unpack bzImage: its payload is cut off: %w", err)
	}
	// After the packed data stands its unpacked length, which all unpackers but
	// those that look for a next stream leave alone.
	body := io.NewSectionReader(r, offset, max(length-4, 0))
	unpacked, err := unpack(magic, packed, body)
	if err != nil {
		return nil, fmt.Errorf("unpack bzImage: %w", err)
	}
	return io.LimitReader(unpacked, maxPayload), nil
}

func unpack(magic []byte, packed, body io.Reader) (io.Reader, error) {
	switch {
	case bytes.HasPrefix(magic, []byte(elf.ELFMAG)):
		return packed, nil
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(packed)
		if err != nil {
			return nil, err
		}
		z.Multistream(false)
		return z, nil
	case bytes.HasPrefix(magic, []byte("BZh")):
		return bzip2.NewReader(body), nil
	case bytes.HasPrefix(magic, []byte{0x5d, 0, 0}):
		return lzma.ReaderConfig{DictCap: maxDictionary}.NewReader(body)
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return xz.ReaderConfig{DictCap: maxDictionary, SingleStream: true}.NewReader(body)
	case bytes.HasPrefix(magic, []byte{0x02, 0x21, 0x4c, 0x18}):
		return lz4.NewReader(body), nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxDictionary))
	case bytes.HasPrefix(magic, []byte{0x89, 'L', 'Z', 'O'}):
		return nil, errors.New("it is packed with LZO, which is not supported (CONFIG_KERNEL_ZSTD is)")
	}
	return nil, fmt.Errorf("its payload begins with % x, which is no format that is known", magic)
}

// OpenConfig reads the configuration that the kernel image at path carries
// (CONFIG_IKCONFIG): a .config as text. It returns [ErrNoConfig], wrapped, if
// there is none.
func OpenConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration in kernel: %w", err)
	}
	defer f.Close()
	text, err := Config(f)
	if err != nil {
		return nil, fmt.Errorf("read configuration in kernel %s: %w", path, err)
	}
	return text, nil
}
