package unpacktest

import "fmt"

// Entry is one entry of an archive, sound or not.
type Entry struct {
	Name     string
	Mode     uint32
	UID, GID uint32
	NLink    uint32
	Ino      uint32
	RMajor   uint32
	RMinor   uint32
	Data     string
	Magic    string // 070701 if empty
	Sum      uint32
	Size     int  // instead of the data's length, if not 0
	NameSize int  // instead of the name's length and a NUL, if not 0
	NoNUL    bool // another byte is in its place
	Gap      int  // zero bytes in front
	Ragged   bool // no padding behind
	Field    string
}

// bytes returns the entry with its padding; pos is where it begins.
func (e Entry) bytes() string {
	magic, name := e.Magic, e.Name+"\x00"
	if magic == "" {
		magic = "070701"
	}
	if e.NoNUL {
		name = e.Name + "x"
	}
	nameSize, size, nlink := len(name), len(e.Data), e.NLink
	if e.NameSize != 0 {
		nameSize = e.NameSize
		for len(name) < nameSize {
			name += "\x00"
		}
	}
	if e.Size != 0 {
		size = e.Size
	}
	if nlink == 0 {
		nlink = 1
	}
	uid := fmt.Sprintf("%08X", e.UID)
	if e.Field != "" {
		uid = e.Field
	}
	s := fmt.Sprintf("%s%08X%08X%s%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", magic, e.Ino, e.Mode, uid, e.GID, nlink, 0,
		size, 0, 0, e.RMajor, e.RMinor, nameSize, e.Sum)
	s = pad(s+name) + e.Data
	if !e.Ragged {
		s = pad(s)
	}
	return zeros(e.Gap) + s
}

func zeros(n int) string { return string(make([]byte, n)) }

func pad(s string) string { return s + zeros(-len(s)&3) }

// trailer is the end mark.
func trailer() Entry { return Entry{Name: "TRAILER!!!"} }

// open joins entries to an archive without its end mark.
func open(list ...Entry) string {
	s := ""
	for _, e := range list {
		s += e.bytes()
	}
	return s
}

// closed joins entries to an archive.
func closed(list ...Entry) string { return open(append(list, trailer())...) }

func file(name, data string) Entry { return Entry{Name: name, Mode: 0o100644, Data: data} }

func dir(name string) Entry { return Entry{Name: name, Mode: 0o040755, NLink: 2} }

func link(name, target string) Entry { return Entry{Name: name, Mode: 0o120777, Data: target} }

// linked is one of n names of the file with the inode.
func linked(name string, n, ino uint32, data string) Entry {
	return Entry{Name: name, Mode: 0o100600, NLink: n, Ino: ino, Data: data}
}

func node(name string, mode, major, minor uint32) Entry {
	return Entry{Name: name, Mode: mode, RMajor: major, RMinor: minor}
}
