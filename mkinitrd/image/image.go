package image

import (
	"fmt"
	"io"
	"os"

	"storeboot/internal/newc"
	"storeboot/mkinitrd/compress"
)

// Image is an initramfs.
type Image struct{ Segments []Segment }

// Segment is one archive of an image.
type Segment struct{ Entries []Entry }

// Entry is a file in an image. Its data is Data, or the content of File, a file
// of this machine, if that is set.
type Entry struct {
	newc.Header
	Data []byte
	File string
	// Why says what the entry is there for: "init", "module virtiofs".
	Why string
}

// Write writes the image to w, each segment compressed by itself.
func (i *Image) Write(w io.Writer, c compress.Codec, level int) error {
	for _, s := range i.Segments {
		z, err := compress.NewWriter(w, c, level)
		if err != nil {
			return fmt.Errorf("write image: %w", err)
		}
		if err := s.write(z); err != nil {
			return fmt.Errorf("write image: %w", err)
		}
		if err := z.Close(); err != nil {
			return fmt.Errorf("write image: %w", err)
		}
	}
	return nil
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
	return err
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
