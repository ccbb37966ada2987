package kernelimage

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Format is how a kernel image is packed.
type Format string

const (
	BzImage Format = "bzImage" // x86, self-extracting
	ELF     Format = "vmlinux"
	Flat    Format = "Image" // arm64, riscv64
)

// Image is a kernel image's own description.
type Image struct {
	Path    string
	Format  Format
	Arch    string // as GOARCH: amd64, 386, arm64, riscv64
	Release string // uname -r: "6.1.0-56-cloud-amd64"
	// PVH is set for an ELF image with a PVH entry, which cloud-hypervisor and
	// QEMU start without a boot loader.
	PVH bool
}

// maxBanner is how much of a flat image or a vmlinux is searched for its
// banner: more than any such image has (a debug vmlinux is below 1 GiB, but its
// banner is in the loaded part).
const maxBanner = 256 << 20

// Open reads the description of the kernel image at path.
func Open(path string) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open kernel: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open kernel: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("open kernel %s: not a regular file", path)
	}
	img, err := Read(f, st.Size())
	if err != nil {
		return nil, fmt.Errorf("open kernel %s: %w", path, err)
	}
	img.Path = path
	return img, nil
}

// Read reads the description of the kernel image in the first size bytes of r.
func Read(r io.ReaderAt, size int64) (*Image, error) {
	head := make([]byte, 0x240)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	head = head[:n]
	switch {
	case len(head) >= 0x210 && string(head[0x202:0x206]) == "HdrS":
		return readBzImage(r, head)
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return readELF(r, size)
	case len(head) >= 0x40 && string(head[0x38:0x3c]) == "ARM\x64":
		return readFlat(r, size, "arm64")
	case len(head) >= 0x40 && string(head[0x38:0x3c]) == "RSC\x05":
		return readFlat(r, size, "riscv64")
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return nil, errors.New("is compressed with gzip: unpack it first (gunzip)")
	}
	return nil, errors.New("not a kernel image (neither bzImage, vmlinux nor Image)")
}

func readBzImage(r io.ReaderAt, head []byte) (*Image, error) {
	img := &Image{Format: BzImage, Arch: "386"}
	// xloadflags bit 0: has a 64-bit entry point (protocol 2.12).
	if len(head) >= 0x238 && binary.LittleEndian.Uint16(head[0x206:]) >= 0x20c && head[0x236]&1 != 0 {
		img.Arch = "amd64"
	}
	off := int64(binary.LittleEndian.Uint16(head[0x20e:]))
	if off == 0 {
		return nil, errors.New("bzImage names no version")
	}
	buf := make([]byte, 512)
	n, err := r.ReadAt(buf, 0x200+off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read version: %w", err)
	}
	line, _, ok := bytes.Cut(buf[:n], []byte{0})
	if !ok {
		return nil, fmt.Errorf("read version: %w", io.ErrUnexpectedEOF)
	}
	release, _, _ := strings.Cut(string(line), " ")
	if err := checkRelease(release); err != nil {
		return nil, err
	}
	img.Release = release
	return img, nil
}

func readELF(r io.ReaderAt, size int64) (*Image, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("read ELF header: %w", err)
	}
	img := &Image{Format: ELF}
	switch f.Machine {
	case elf.EM_X86_64:
		img.Arch = "amd64"
	case elf.EM_386:
		img.Arch = "386"
	case elf.EM_AARCH64:
		img.Arch = "arm64"
	case elf.EM_RISCV:
		img.Arch = "riscv64"
	default:
		return nil, fmt.Errorf("ELF file for %v, not a kernel that can be booted here", f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_NOTE && p.Filesz < 1<<20 && hasPVHNote(p.Open(), f.ByteOrder) {
			img.PVH = true
		}
	}
	img.Release, err = findBanner(io.NewSectionReader(r, 0, size))
	if err != nil {
		return nil, err
	}
	return img, nil
}

// hasPVHNote looks for XEN_ELFNOTE_PHYS32_ENTRY (type 18, name "Xen").
func hasPVHNote(r io.Reader, order binary.ByteOrder) bool {
	data, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return false
	}
	pad := func(n uint32) int { return int(n+3) &^ 3 }
	for len(data) >= 12 {
		name, desc, typ := order.Uint32(data), order.Uint32(data[4:]), order.Uint32(data[8:])
		if name > 1<<20 || desc > 1<<20 || 12+pad(name)+pad(desc) > len(data) {
			return false
		}
		if typ == 18 && name == 4 && string(data[12:15]) == "Xen" {
			return true
		}
		data = data[12+pad(name)+pad(desc):]
	}
	return false
}

func readFlat(r io.ReaderAt, size int64, arch string) (*Image, error) {
	release, err := findBanner(io.NewSectionReader(r, 0, size))
	if err != nil {
		return nil, err
	}
	return &Image{Format: Flat, Arch: arch, Release: release}, nil
}

// findBanner finds the release in "Linux version RELEASE (". The text also
// stands in the kernel as a format string, whose "%s" is no release.
func findBanner(r io.Reader) (string, error) {
	const mark = "Linux version "
	const longest = 64 // __NEW_UTS_LEN
	r = io.LimitReader(r, maxBanner)
	buf := make([]byte, 0, 1<<20)
	for {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		end := err != nil
		for rest := buf; ; {
			i := bytes.Index(rest, []byte(mark))
			if i < 0 || (!end && i+len(mark)+longest+2 > len(rest)) {
				break
			}
			rest = rest[i+len(mark):]
			if j := bytes.Index(rest[:min(len(rest), longest+2)], []byte(" (")); j > 0 && checkRelease(string(rest[:j])) == nil {
				return string(rest[:j]), nil
			}
		}
		if end {
			return "", errors.New("kernel names no version (is it compressed inside?)")
		}
		keep := len(mark) + longest + 2
		buf = append(buf[:0], buf[len(buf)-keep:]...)
	}
}

// checkRelease allows what uname -r can be, and nothing that would lead out of
// /lib/modules.
func checkRelease(s string) error {
	if s == "" || len(s) > 64 || s[0] < '0' || s[0] > '9' || strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune(".-_+~", c))
	}) || strings.Contains(s, "..") {
		return fmt.Errorf("%q is no kernel release", s)
	}
	return nil
}
