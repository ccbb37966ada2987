package unpack

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"storeboot/internal/newc"
)

// linkKey is what the kernel knows the names of one file by.
type linkKey struct{ major, minor, ino, typ uint32 }

// source is a row of archives: a part of the file, or what a stream unpacks to.
type source struct {
	m      *machine
	r      *bufio.Reader
	pos    int64 // in the file, or in the stream's output
	raw    bool
	stream *stream // nil if raw
	whole  bool    // no entry is begun
	sum    uint32  // of the data that take passed on
}

// errEnd is the end of the input inside an entry.
var errEnd = errors.New("end of input")

// full reads all of b.
func (s *source) full(b []byte) error {
	n, err := io.ReadFull(s.r, b)
	s.pos += int64(n)
	return ended(err)
}

// skip passes n bytes.
func (s *source) skip(n int64) error {
	k, err := io.CopyN(io.Discard, s.r, n)
	s.pos += k
	return ended(err)
}

// take copies n bytes to w and sums them; it returns how many there were.
func (s *source) take(w io.Writer, n int64) (int64, error) {
	s.sum = 0
	sum := &s.sum
	var write error
	k, err := io.CopyN(writerFunc(func(p []byte) (int, error) {
		for _, c := range p {
			*sum += uint32(c)
		}
		var n int
		n, write = w.Write(p)
		return n, write
	}), s.r, n)
	s.pos += k
	if write != nil {
		return k, write
	}
	return k, ended(err)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errEnd
	}
	return err
}

// archives unpacks entries up to the end of the source, or of what is not
// compressed.
func (m *machine) archives(s *source) error {
	// Only the very first stream is not searched for zero bytes in front.
	s.whole = !m.fresh || s.raw
	if m.fresh && !s.raw {
		if b, _ := s.r.Peek(1); len(b) > 0 && b[0] != '0' {
			m.stop(MsgNoMagic, "the stream does not begin with an archive")
			return nil
		}
	}
	for {
		b, err := s.r.Peek(1)
		if err != nil {
			if s.raw && !errors.Is(err, io.EOF) {
				return err
			}
			return nil
		}
		if b[0] == 0 {
			_, _ = s.r.Discard(1)
			s.pos++
			continue
		}
		if s.pos%4 != 0 && !m.fresh {
			m.stop(MsgPadding, fmt.Sprintf("an entry or segment at byte %d, which is no multiple of 4", s.pos))
			return nil
		}
		if b[0] != '0' {
			if !s.raw {
				m.stop(MsgJunkIn, fmt.Sprintf("byte %d of what the stream unpacks to begins no entry", s.pos))
			}
			return nil
		}
		m.fresh, s.whole = false, false
		err = m.entry(s)
		if errors.Is(err, errEnd) {
			if s.raw {
				m.lose(Loss{Segment: m.seg, Offset: s.pos, Why: "the file ends inside an entry, which the kernel does not notice"})
			}
			return nil
		}
		if err != nil || m.res.Message != "" {
			return err
		}
		s.whole = true
	}
}

// entry unpacks one entry with its padding.
func (m *machine) entry(s *source) error {
	at := s.pos
	var b [headerSize]byte
	if err := s.full(b[:]); err != nil {
		return err
	}
	switch string(b[:6]) {
	case "070701", "070702":
	case "070707":
		m.stop(MsgOldCpio, fmt.Sprintf("the entry at byte %d is in the old cpio format", at))
		return nil
	default:
		m.stop(MsgNoMagic, fmt.Sprintf("the entry at byte %d begins with %q", at, b[:6]))
		return nil
	}
	if m.entries++; m.entries > maxEntries {
		return fmt.Errorf("more than %d entries", maxEntries)
	}
	m.res.Segments[m.seg].Entries++
	h := parse(b[:])
	next := s.pos + h.nameRoom() + h.Size
	next += -next & 3
	lost := func(path, why string) {
		m.lose(Loss{Path: path, Segment: m.seg, Offset: at, Why: why, Dropped: true})
	}
	link := h.Type() == newc.TypeSymlink
	switch {
	case h.nameSize == 0 || h.nameSize > pathMax:
		lost("", fmt.Sprintf("its name has %d bytes, the kernel takes 1 to %d", h.nameSize, pathMax))
		return s.skip(next - s.pos)
	case link && h.Size > pathMax:
		lost("", fmt.Sprintf("the target of the symbolic link has %d bytes, the kernel takes %d", h.Size, pathMax))
		return s.skip(next - s.pos)
	case !link && h.Type() != newc.TypeRegular && h.Size > 0:
		lost("", fmt.Sprintf("it has %d bytes of data, and a file of mode %#o has none", h.Size, h.Mode))
		return s.skip(next - s.pos)
	}
	room := h.nameRoom()
	if link {
		room += h.Size
	}
	buf := make([]byte, room)
	if err := s.full(buf); err != nil {
		return err
	}
	if buf[h.nameSize-1] != 0 {
		m.stop(MsgMalformed, fmt.Sprintf("the name of the entry at byte %d has no NUL at its end", at))
		return nil
	}
	if m.names += room; m.names > maxNames {
		return fmt.Errorf("names of more than %d MiB", maxNames>>20)
	}
	h.Name = cString(buf)
	if link {
		if err := m.symlink(&h, cString(buf[h.nameRoom():]), lost, at); err != nil {
			return err
		}
	} else if err := m.file(s, &h, lost, at); err != nil || m.res.Message != "" {
		return err
	}
	return s.skip(next - s.pos)
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func (m *machine) node(h *header, at int64) *Node {
	return &Node{
		Mode: h.Mode, UID: h.UID, GID: h.GID, MTime: h.MTime, RDevMajor: h.RDevMajor, RDevMinor: h.RDevMinor,
		Segment: m.seg, Offset: at,
	}
}

func (m *machine) symlink(h *header, target string, lost func(string, string), at int64) error {
	n := m.node(h, at)
	n.Target, n.Size = target, int64(len(target))
	m.tree.clear(h.Name, 0)
	if target == "" {
		lost(h.Name, "the symbolic link has no target")
		return nil
	}
	if err := m.tree.symlink(h.Name, n); err != nil {
		lost(h.Name, err.Error())
	}
	return nil
}

// file makes what is no symbolic link.
func (m *machine) file(s *source, h *header, lost func(string, string), at int64) error {
	if h.Name == "TRAILER!!!" {
		clear(m.links)
		return nil
	}
	n := m.node(h, at)
	m.tree.clear(h.Name, h.Mode)
	switch h.Type() {
	case newc.TypeRegular:
		linked, err := m.link(h)
		if err != nil {
			lost(h.Name, err.Error())
			return nil
		}
		return m.regular(s, h, n, linked, lost, at)
	case newc.TypeDirectory:
		if _, err := m.tree.mkdir(h.Name, n); err != nil {
			lost(h.Name, err.Error())
		}
	case newc.TypeBlock, newc.TypeChar, newc.TypeFIFO, newc.TypeSocket:
		linked, err := m.link(h)
		if err == nil && !linked {
			var kept bool
			if kept, err = m.tree.mknod(h.Name, n); kept {
				m.lose(Loss{Path: h.Name, Segment: m.seg, Offset: at, Why: "an earlier device at its place keeps its number"})
			}
		}
		if err != nil {
			lost(h.Name, err.Error())
		}
	default:
		lost(h.Name, fmt.Sprintf("mode %#o has no file type", h.Mode))
	}
	return nil
}

// link joins h to an earlier name of the same file, if there is one.
func (m *machine) link(h *header) (bool, error) {
	if h.NLink < 2 {
		return false, nil
	}
	key := linkKey{h.DevMajor, h.DevMinor, h.Ino, h.Type()}
	old, ok := m.links[key]
	if !ok {
		m.links[key] = h.Name
		return false, nil
	}
	m.tree.clear(h.Name, 0)
	return true, m.tree.link(old, h.Name)
}

// regular writes a file's data.
func (m *machine) regular(s *source, h *header, fresh *Node, linked bool, lost func(string, string), at int64) error {
	n, made, err := m.tree.create(h.Name, fresh)
	if err != nil {
		lost(h.Name, err.Error())
		return nil
	}
	if !made {
		own(n, fresh)
		n.Segment, n.Offset = m.seg, at
	}
	into := n
	switch {
	case !linked:
		n.data, n.stored, n.Size, n.patch = 0, 0, 0, nil
	case h.Size > 0 && n.Size > 0:
		// Both names carry data: the second is written over the first.
		into = &Node{}
		n.patch = into
		m.lose(Loss{Path: h.Name, Segment: m.seg, Offset: at, Why: "two names of one file have data, and the second is written over the first"})
	}
	if h.Size > 0 {
		into.data = m.tree.spool.n
		n.Size = h.Size
		m.res.Data += h.Size
		got, err := s.take(m.tree.spool, h.Size)
		into.stored = got
		into.Size = h.Size
		if into != n {
			into.Size = got
			n.stored = min(n.stored, n.Size)
		}
		if errors.Is(err, errEnd) && s.raw {
			m.lose(Loss{Path: h.Name, Segment: m.seg, Offset: at, Why: fmt.Sprintf("the file ends after %d of its %d bytes; the rest is zero", got, h.Size)})
		}
		if err != nil {
			n.Cut = true
			return err
		}
	} else {
		s.sum = 0
	}
	if h.summed && s.sum != h.sum {
		m.stop(MsgSum, fmt.Sprintf("%s: the data sums up to %08X, the archive says %08X", strings.TrimPrefix(h.Name, "/"), s.sum, h.sum))
	}
	return nil
}
