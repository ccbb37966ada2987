package image

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"storeboot/internal/newc"
)

// Image is an initramfs.
type Image struct {
	Segments []Segment
	// Template is the name of the template that it was made of.
	Template string
}

// Segment is one archive of an image.
type Segment struct {
	Entries []Entry
	// Raw segments are never compressed: the kernel reads them before it can
	// unpack anything.
	Raw bool
	// Archive is a file that is the segment, as it is; Entries then only say
	// what is in it.
	Archive string

	key string // of its bytes, once it is known
}

// Entry is a file in an image. Its data is Data, or the content of File, a file
// of this machine, if that is set.
type Entry struct {
	newc.Header
	Data []byte
	File string
	Reason
	// link is the same for all names of one file; "" is a file with one name.
	link string
	// linkTo is the name that has the data, of a file with several.
	linkTo string
}

// Reason says why an entry is there.
type Reason struct {
	Why string // "init", "module virtiofs", "library libc.so.6"
	By  string // the path of the entry that needs it, "" if none does
	At  string // the place in the template that asks for it, FILE:LINE:COLUMN
	// Origin is what it was made of: a file of this machine, an import path, a
	// module's name; "" is this package.
	Origin string
}

// LinkTo is the name of the entry that has the data of this one, a further name
// of the same file; "" if it has its own.
func (e *Entry) LinkTo() string { return e.linkTo }

// Open opens the data of the entry.
func (e *Entry) Open() (io.ReadCloser, error) {
	if e.File == "" {
		return io.NopCloser(bytes.NewReader(e.Data)), nil
	}
	return os.Open(e.File)
}

func (s *Segment) write(w io.Writer) error {
	n := newc.NewWriter(w)
	for i := range s.Entries {
		e := &s.Entries[i]
		if err := n.WriteHeader(&e.Header); err != nil {
			return err
		}
		if err := e.writeData(n); err != nil {
			return err
		}
	}
	return n.Close()
}

func (e *Entry) writeData(w io.Writer) error {
	if e.Size == 0 && e.linkTo != "" {
		return nil
	}
	if e.File == "" {
		_, err := w.Write(e.Data)
		return err
	}
	f, err := os.Open(e.File)
	if err != nil {
		return err
	}
	defer f.Close()
	// A file that grew or shrank since is an error of the writer.
	_, err = io.Copy(struct{ io.Writer }{w}, f)
	if err != nil {
		return fmt.Errorf("%s: %w", e.File, err)
	}
	return nil
}

// Size is the number of bytes of all entries' data.
func (i *Image) Size() int64 {
	var n int64
	for _, s := range i.Segments {
		for _, e := range s.Entries {
			n += e.Size
		}
	}
	return n
}
