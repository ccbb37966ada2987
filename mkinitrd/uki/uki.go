// Package uki makes unified kernel images: one UEFI program with a kernel, its
// initrd and its command line, around the stub of systemd
// (systemd-stub(7), https://uapi-group.org/specifications/specs/unified_kernel_image).
//
// A unified kernel image is the stub, a PE file, with more sections:
//
//	.osrel    /etc/os-release of the system
//	.uname    the kernel's release
//	.cmdline  the kernel's command line
//	.initrd   the initrd
//	.linux    the kernel, last: it may be unpacked over what follows it
//
// The layout of PE files is that of the Microsoft Portable Executable
// specification. Each section gets an entry in the section table, an address
// behind the last one, and its bytes at the end of the file. Where the table
// has no room before the first section's bytes, it is an error: addresses that
// the stub was linked for cannot be moved.
//
// The same parts give the same bytes: no times are recorded. A signature of the
// stub does not survive, and is taken off; the result is to be signed anew.
//
// The stub is trusted as a program, not as a file: every offset is checked.
package uki

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Parts are what a unified kernel image is made of; only Stub and Kernel have
// to be there.
type Parts struct {
	Stub      []byte
	Kernel    []byte
	Initrd    []byte
	Cmdline   string
	OSRelease []byte
	Uname     string
}

// Offsets in a PE file, from its specification.
const (
	peOffset       = 0x3c // of the PE header's offset
	coffSize       = 24   // with the signature
	sectionSize    = 40
	optionalMagic  = 0x20b // PE32+
	certificates   = 4     // index in the data directories
	initializedRO  = 0x40000040
	maxSections    = 96 // of the Windows loader; UEFI firmware has more
	maxImage       = 1<<32 - 1<<16
	optMinimum     = 112
	optSecAlign    = 32
	optFileAlign   = 36
	optSizeImage   = 56
	optSizeHeaders = 60
	optChecksum    = 64
	optDirectories = 108
)

// section is one entry of the section table.
type section struct {
	name string
	data []byte
}

// Write writes the image to w.
func Write(w io.Writer, p Parts) error {
	out, sections, err := assemble(p)
	if err != nil {
		return fmt.Errorf("make unified kernel image: %w", err)
	}
	if _, err := w.Write(out); err != nil {
		return fmt.Errorf("make unified kernel image: %w", err)
	}
	align := fileAlignment(out)
	for _, s := range sections {
		if _, err := w.Write(s.data); err != nil {
			return fmt.Errorf("make unified kernel image: %w", err)
		}
		if _, err := w.Write(make([]byte, roundUp(uint64(len(s.data)), align)-uint64(len(s.data)))); err != nil {
			return fmt.Errorf("make unified kernel image: %w", err)
		}
	}
	return nil
}

func fileAlignment(b []byte) uint64 {
	at := binary.LittleEndian.Uint32(b[peOffset:])
	return uint64(binary.LittleEndian.Uint32(b[at+coffSize+optFileAlign:]))
}

// assemble returns the stub with its headers changed, padded to where the first
// of the sections begins.
func assemble(p Parts) ([]byte, []section, error) {
	le := binary.LittleEndian
	if len(p.Kernel) == 0 {
		return nil, nil, errors.New("there is no kernel")
	}
	b := append([]byte(nil), p.Stub...)
	if len(b) < 64 || b[0] != 'M' || b[1] != 'Z' {
		return nil, nil, errors.New("the stub is not a PE file")
	}
	at := uint64(le.Uint32(b[peOffset:]))
	if at+coffSize+optMinimum > uint64(len(b)) || string(b[at:at+4]) != "PE\x00\x00" {
		return nil, nil, errors.New("the stub is not a PE file")
	}
	count, optSize := uint64(le.Uint16(b[at+6:])), uint64(le.Uint16(b[at+20:]))
	opt := at + coffSize
	table := opt + optSize
	if optSize < optMinimum || table+count*sectionSize > uint64(len(b)) || le.Uint16(b[opt:]) != optionalMagic {
		return nil, nil, errors.New("the stub is not a sound PE32+ file")
	}
	secAlign, fileAlign := uint64(le.Uint32(b[opt+optSecAlign:])), uint64(le.Uint32(b[opt+optFileAlign:]))
	if secAlign == 0 || fileAlign == 0 || secAlign&(secAlign-1) != 0 || fileAlign&(fileAlign-1) != 0 || fileAlign > 64<<10 || secAlign > 1<<30 {
		return nil, nil, errors.New("the stub's alignments are no powers of 2")
	}
	// A kernel as a section needs no more than a page, but a page it needs.
	secAlign = max(secAlign, 4096)
	b, err := unsigned(b, opt, optSize)
	if err != nil {
		return nil, nil, err
	}
	if table+count*sectionSize > uint64(len(b)) {
		return nil, nil, errors.New("the stub's signature overlaps its section table")
	}
	room, address, err := scanSections(b, table, count)
	if err != nil {
		return nil, nil, err
	}
	sections := p.sections()
	end := table + (count+uint64(len(sections)))*sectionSize
	if room = min(room, uint64(le.Uint32(b[opt+optSizeHeaders:]))); end > room {
		return nil, nil, fmt.Errorf("the stub's section table has room for %d more sections, not for %d: take another stub", (room-table)/sectionSize-count, len(sections))
	}
	if count+uint64(len(sections)) > maxSections {
		return nil, nil, fmt.Errorf("more than %d sections", maxSections)
	}
	file := roundUp(uint64(len(b)), fileAlign)
	b = append(b, make([]byte, file-uint64(len(b)))...)
	for i, s := range sections {
		address = roundUp(address, secAlign)
		size := roundUp(uint64(len(s.data)), fileAlign)
		if address+size > maxImage || file+size > maxImage {
			return nil, nil, errors.New("it would have 4 GiB or more")
		}
		h := b[table+(count+uint64(i))*sectionSize:][:sectionSize]
		clear(h)
		copy(h, s.name)
		le.PutUint32(h[8:], uint32(len(s.data)))
		le.PutUint32(h[12:], uint32(address))
		le.PutUint32(h[16:], uint32(size))
		le.PutUint32(h[20:], uint32(file))
		le.PutUint32(h[36:], initializedRO)
		address += uint64(len(s.data))
		file += size
	}
	le.PutUint16(b[at+6:], uint16(count)+uint16(len(sections)))
	le.PutUint32(b[opt+optSizeImage:], uint32(roundUp(address, secAlign)))
	le.PutUint32(b[opt+optChecksum:], 0) // UEFI does not look at it
	return b, sections, nil
}

// sections are those that the parts have.
func (p Parts) sections() []section {
	var out []section
	for _, s := range []section{
		{".osrel", p.OSRelease}, {".uname", []byte(p.Uname)}, {".cmdline", []byte(p.Cmdline)}, {".initrd", p.Initrd}, {".linux", p.Kernel},
	} {
		if len(s.data) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// unsigned takes off the certificates, which are at the file's end.
func unsigned(b []byte, opt, optSize uint64) ([]byte, error) {
	le := binary.LittleEndian
	n := uint64(le.Uint32(b[opt+optDirectories:]))
	entry := opt + optMinimum + certificates*8
	if n <= certificates || entry+8 > opt+optSize {
		return b, nil
	}
	at, size := uint64(le.Uint32(b[entry:])), uint64(le.Uint32(b[entry+4:]))
	if size == 0 {
		return b, nil
	}
	if at < opt+optSize || at+size > uint64(len(b)) {
		return nil, errors.New("the stub's signature lies outside of it")
	}
	clear(b[entry : entry+8])
	return b[:at], nil
}

// scanSections returns where the bytes of the first section begin, and the
// address behind the last one.
func scanSections(b []byte, table, count uint64) (room, address uint64, err error) {
	le := binary.LittleEndian
	room = uint64(len(b))
	for i := range count {
		h := b[table+i*sectionSize:]
		size, at, rawSize, raw := uint64(le.Uint32(h[8:])), uint64(le.Uint32(h[12:])), uint64(le.Uint32(h[16:])), uint64(le.Uint32(h[20:]))
		if rawSize > 0 {
			if raw+rawSize > uint64(len(b)) {
				return 0, 0, fmt.Errorf("the stub's section %.8q lies outside of it", h[:8])
			}
			room = min(room, raw)
		}
		room = min(room, at) // the headers are mapped too
		address = max(address, at+max(size, rawSize))
	}
	return room, address, nil
}

func roundUp(n, align uint64) uint64 { return (n + align - 1) &^ (align - 1) }
