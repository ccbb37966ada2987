package narsection

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"storeboot/virtiofsd/castore"
)

const (
	// bufferSize is how much is collected, or read of a file at once, in bytes.
	bufferSize = 128 << 10
	// sendSize is the shortest piece of a file that is handed to the writer as a
	// file, so that the kernel can send it without our copying it. Opening the
	// file a second time costs as much as copying some 10 KiB.
	sendSize = 256 << 10
	// proveSize is how much of a file is proved before it is sent, in bytes:
	// what comes first need not wait for the rest.
	proveSize = 8 << 20
)

// WriteRange writes the n bytes of the NAR that begin at off. Both have to lie
// within Size. It is an error if something of the tree is missing or is of
// another size than its parent says. A w that is an io.ReaderFrom gets large
// files as *io.LimitedReader of *os.File where they are plain files.
func (v *View) WriteRange(ctx context.Context, w io.Writer, off, n uint64) error {
	if off > v.size || n > v.size-off {
		return fmt.Errorf("write NAR: %d bytes at %d are not within its %d", n, off, v.size)
	}
	s := &section{View: v, w: w, from: off, to: off + n}
	s.readFrom, _ = w.(io.ReaderFrom)
	err := s.run(ctx)
	if err == nil {
		err = s.flush()
	}
	if err != nil {
		return fmt.Errorf("write NAR: %w", err)
	}
	return nil
}

// section writes the bytes [from, to) of a NAR.
type section struct {
	*View
	w        io.Writer
	readFrom io.ReaderFrom // w, if it is one
	from, to uint64
	pos      uint64            // where in the NAR we are
	buf      []byte            // written up to here, but for this
	open     [][]castore.Entry // what is still to be written of each open directory
}

func (s *section) run(ctx context.Context) error {
	s.words(magic)
	if err := s.node(ctx, s.root); err != nil {
		return err
	}
	for len(s.open) > 0 && s.pos < s.to {
		top := &s.open[len(s.open)-1]
		if len(*top) == 0 {
			s.open = s.open[:len(s.open)-1]
			s.words(")")
			s.endEntry()
		} else {
			e := (*top)[0]
			*top = (*top)[1:]
			if size := s.entrySize(e); s.pos+size <= s.from {
				s.pos += size
				continue
			}
			s.words("entry", "(", "name", e.Name, "node")
			if err := s.node(ctx, e.Node); err != nil {
				return fmt.Errorf("%q: %w", e.Name, err)
			}
		}
		if len(s.buf) >= bufferSize/2 {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// node writes a file or symlink, or begins a directory.
func (s *section) node(ctx context.Context, n castore.Node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	switch n.Kind {
	case castore.KindSymlink:
		s.words("(", "type", "symlink", "target", n.Target, ")")
		s.endEntry()
		return nil
	case castore.KindFile:
		s.words("(", "type", "regular")
		if n.Executable {
			s.words("executable", "")
		}
		s.words("contents")
		s.bytes(binary.LittleEndian.AppendUint64(nil, n.Size))
		if err := s.contents(ctx, n); err != nil {
			return err
		}
		var zeros [8]byte
		s.bytes(zeros[:padding(n.Size)])
		s.words(")")
		s.endEntry()
		return nil
	}
	dir, err := s.directory(ctx, n)
	if err != nil {
		return err
	}
	s.words("(", "type", "directory")
	s.open = append(s.open, dir.Entries())
	return nil
}

// endEntry ends the entry whose node has ended; the root is in none.
func (s *section) endEntry() {
	if len(s.open) > 0 {
		s.words(")")
	}
}

// contents writes what is wanted of a file.
func (s *section) contents(ctx context.Context, n castore.Node) error {
	begin, end := s.pos, s.pos+n.Size
	s.pos = end
	if n.Size == 0 || end <= s.from || begin >= s.to {
		return nil
	}
	b, err := s.blobs.Open(ctx, n.Digest)
	if err != nil {
		return err
	}
	defer b.Close()
	if uint64(b.Size()) != n.Size {
		return fmt.Errorf("blob %s has %d bytes and not %d, as its parent says", n.Digest, b.Size(), n.Size)
	}
	off, to := max(begin, s.from)-begin, min(end, s.to)-begin
	if plain, ok := b.(castore.FileBlob); ok && s.readFrom != nil && to-off >= sendSize {
		sent, err := s.send(plain, off, to)
		if err != nil {
			return fmt.Errorf("read blob %s: %w", n.Digest, err)
		}
		off += sent
	}
	for off < to {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(s.buf) >= bufferSize {
			if err := s.flush(); err != nil {
				return err
			}
		}
		if s.buf == nil {
			s.buf = make([]byte, 0, bufferSize+4096)
		}
		have := len(s.buf)
		piece := int(min(to-off, uint64(max(bufferSize-have, 0))))
		s.buf = append(s.buf, make([]byte, piece)...)
		if m, err := b.ReadAt(s.buf[have:], int64(off)); m < piece {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read blob %s: %w", n.Digest, err)
		}
		off += uint64(piece)
	}
	return nil
}

// send hands the part [off, to) of a file to the writer, and returns how much of
// it that took; none if the file cannot be opened again.
func (s *section) send(b castore.FileBlob, off, to uint64) (uint64, error) {
	// A second open file of our own: others may read the blob's at its offset.
	f, err := os.Open("/proc/self/fd/" + strconv.FormatUint(uint64(b.File().Fd()), 10))
	if err != nil {
		return 0, nil // no /proc, say: it is read instead
	}
	defer f.Close()
	if _, err := f.Seek(b.Offset()+int64(off), io.SeekStart); err != nil {
		return 0, nil
	}
	if err := s.flush(); err != nil {
		return 0, err
	}
	for at := off; at < to; {
		piece := int64(min(to-at, proveSize))
		if err := b.Prove(int64(at), piece); err != nil {
			return at - off, err
		}
		n, err := s.readFrom.ReadFrom(&io.LimitedReader{R: f, N: piece})
		at += uint64(n)
		if err == nil && n != piece {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return at - off, err
		}
	}
	return to - off, nil
}

// words writes strings of the NAR.
func (s *section) words(list ...string) {
	var zeros, length [8]byte
	for _, word := range list {
		if size := stringSize(len(word)); s.pos+size <= s.from || s.pos >= s.to {
			s.pos += size
			continue
		}
		binary.LittleEndian.PutUint64(length[:], uint64(len(word)))
		s.bytes(length[:])
		s.bytes([]byte(word))
		s.bytes(zeros[:padding(uint64(len(word)))])
	}
}

// bytes writes what is wanted of p.
func (s *section) bytes(p []byte) {
	begin, end := s.pos, s.pos+uint64(len(p))
	s.pos = end
	if end <= s.from || begin >= s.to {
		return
	}
	s.buf = append(s.buf, p[max(begin, s.from)-begin:min(end, s.to)-begin]...)
}

var errShortWrite = errors.New("the writer took less than it was given")

func (s *section) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	n, err := s.w.Write(s.buf)
	if err == nil && n < len(s.buf) {
		err = errShortWrite
	}
	s.buf = s.buf[:0]
	return err
}
