package newc

import (
	"fmt"
	"path"
	"strings"
)

// File types in [Header.Mode], as in stat(2).
const (
	TypeMask      = 0o170000
	TypeSocket    = 0o140000
	TypeSymlink   = 0o120000
	TypeRegular   = 0o100000
	TypeBlock     = 0o060000
	TypeDirectory = 0o040000
	TypeChar      = 0o020000
	TypeFIFO      = 0o010000
)

const (
	headerSize = 110
	// maxName is the longest name and the longest target of a symbolic link,
	// without the NUL: PATH_MAX is 4096 with it.
	maxName = 4095
	maxSize = 1<<32 - 1
	trailer = "TRAILER!!!"
)

// Align is the alignment of entries, and of a segment that is not compressed,
// in the initramfs.
const Align = 4

// Padding is the number of zero bytes, 0 to 3, that bring offset n to a
// multiple of [Align].
func Padding(n int64) int { return int(-n & (Align - 1)) }

// Header is all of an entry but its data.
type Header struct {
	Name string // relative to the root: "etc/fstab"
	Mode uint32 // type and permissions: TypeRegular|0o644
	UID  uint32
	GID  uint32
	// NLink is the number of names that the file has; 0 is written as 1, and
	// as 2 for a directory. Files of NLink 2 and more are known as one by
	// their inode and device.
	NLink     uint32
	MTime     uint32 // seconds since 1970
	Size      int64  // bytes of data that follow, below 4 GiB
	Ino       uint32
	DevMajor  uint32 // the device that the inode is on
	DevMinor  uint32
	RDevMajor uint32 // the device that a node stands for
	RDevMinor uint32
}

// Type is the type bits of the mode.
func (h *Header) Type() uint32 { return h.Mode & TypeMask }

// Perm is the mode without its type.
func (h *Header) Perm() uint32 { return h.Mode &^ TypeMask }

// IsDir says whether the entry is a directory.
func (h *Header) IsDir() bool { return h.Type() == TypeDirectory }

// linkKey is what the kernel knows the names of one file by. The device is
// part of it, as two sources may have made one segment.
type linkKey struct{ devMajor, devMinor, ino, typ uint32 }

func (h *Header) link() linkKey { return linkKey{h.DevMajor, h.DevMinor, h.Ino, h.Type()} }

// hardLinked says whether other names of the file may exist.
func (h *Header) hardLinked() bool { return h.NLink >= 2 && !h.IsDir() }

// check holds what [Writer.WriteHeader] promises.
func (h *Header) check() error {
	if err := checkName(h.Name); err != nil {
		return err
	}
	if h.Mode > 0o177777 {
		return fmt.Errorf("mode %#o has more than 16 bits", h.Mode)
	}
	if h.Size < 0 || h.Size > maxSize {
		return fmt.Errorf("size %d: the format holds sizes below 4 GiB", h.Size)
	}
	switch h.Type() {
	case TypeRegular:
	case TypeSymlink:
		if h.Size == 0 || h.Size > maxName {
			return fmt.Errorf("target of %d bytes: a symbolic link has 1 to %d", h.Size, maxName)
		}
	case TypeDirectory, TypeChar, TypeBlock, TypeFIFO, TypeSocket:
		if h.Size != 0 {
			return fmt.Errorf("size %d: only a regular file and a symbolic link have data", h.Size)
		}
	default:
		return fmt.Errorf("mode %#o has no file type", h.Mode)
	}
	return nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("name is empty")
	case len(name) > maxName:
		return fmt.Errorf("name of %d bytes: the kernel takes %d", len(name), maxName)
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("name contains a NUL byte")
	case name[0] == '/':
		return fmt.Errorf("name is absolute: names are relative to the root")
	case name == trailer:
		return fmt.Errorf("name is that of the end mark")
	case name == ".." || strings.HasPrefix(name, "../") || strings.Contains(name, "/../") || strings.HasSuffix(name, "/.."):
		return fmt.Errorf(`name contains ".."`)
	case name == "." || path.Clean(name) != name:
		return fmt.Errorf("name is not in its shortest form, %q", path.Clean(name))
	}
	return nil
}
