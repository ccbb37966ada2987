package nar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	magic = "nix-archive-1"
	// maxName and maxTarget are the limits of Linux, in bytes.
	maxName   = 255
	maxTarget = 4095
	// bufferSize is how much is collected before it is written on, in bytes.
	bufferSize = 32 << 10
)

// state is what the writer expects next.
type state uint8

const (
	wantNode  state = iota // a node: Directory, File or Symlink
	wantEntry              // Entry or EndDirectory
	wantData               // Write
	wantClose              // Close
)

// Writer writes one NAR. The calls follow the tree:
//
//	node = Symlink | File Write* | Directory ( Entry node )* EndDirectory
//
// After an error it refuses further use.
type Writer struct {
	w     io.Writer
	buf   []byte
	open  []string // the last name in each open directory, outermost first
	state state
	left  uint64 // of the file that is being written, in bytes
	pad   int    // bytes behind it
	err   error  // the first one
}

// NewWriter makes a writer of one NAR to w.
func NewWriter(w io.Writer) *Writer {
	n := &Writer{w: w, buf: make([]byte, 0, bufferSize)}
	n.strings(magic)
	return n
}

// Directory begins a directory.
func (n *Writer) Directory() error {
	if n.expect("Directory", wantNode) {
		n.strings("(", "type", "directory")
		n.open = append(n.open, "")
		n.state = wantEntry
	}
	return n.err
}

// Entry begins an entry of the open directory; its node has to follow. Names
// have to ascend.
func (n *Writer) Entry(name string) error {
	if !n.expect("Entry", wantEntry) {
		return n.err
	}
	last := &n.open[len(n.open)-1]
	switch {
	case name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, "/\x00"):
		n.err = fmt.Errorf("write NAR: the name %q is not allowed", name)
	case name <= *last:
		n.err = fmt.Errorf("write NAR: the name %q comes after %q", name, *last)
	default:
		*last = name
		n.strings("entry", "(", "name", name, "node")
		n.state = wantNode
	}
	return n.err
}

// EndDirectory ends the open directory.
func (n *Writer) EndDirectory() error {
	if n.expect("EndDirectory", wantEntry) {
		n.open = n.open[:len(n.open)-1]
		n.endNode()
	}
	return n.err
}

// Symlink writes a symlink.
func (n *Writer) Symlink(target string) error {
	switch {
	case !n.expect("Symlink", wantNode):
	case target == "" || len(target) > maxTarget || strings.IndexByte(target, 0) >= 0:
		n.err = fmt.Errorf("write NAR: the symlink target %q is not allowed", target)
	default:
		n.strings("(", "type", "symlink", "target", target)
		n.endNode()
	}
	return n.err
}

// File begins a file of size bytes, which have to follow with Write.
func (n *Writer) File(size uint64, executable bool) error {
	if !n.expect("File", wantNode) {
		return n.err
	}
	if size > 1<<63-1 {
		n.err = fmt.Errorf("write NAR: a file of %d bytes is too large", size)
		return n.err
	}
	n.strings("(", "type", "regular")
	if executable {
		n.strings("executable", "")
	}
	n.strings("contents")
	n.buf = binary.LittleEndian.AppendUint64(n.buf, size)
	n.left, n.pad = size, padding(size)
	n.state = wantData
	n.endData()
	return n.err
}

// Write writes contents of the file that was begun. More than its size is an
// error.
func (n *Writer) Write(p []byte) (int, error) {
	if len(p) == 0 || !n.expect("Write", wantData) {
		return 0, n.err
	}
	if uint64(len(p)) > n.left {
		n.err = fmt.Errorf("write NAR: file is longer than the %d bytes that were announced", n.left)
		return 0, n.err
	}
	if len(n.buf)+len(p) <= bufferSize {
		n.buf = append(n.buf, p...)
	} else {
		n.flush()
		if n.err == nil {
			_, n.err = n.w.Write(p)
		}
	}
	if n.err != nil {
		return 0, n.err
	}
	n.left -= uint64(len(p))
	n.endData()
	return len(p), n.err
}

// Close ends the NAR. It is an error if the tree is not complete. The writer
// below is not closed.
func (n *Writer) Close() error {
	if n.expect("Close", wantClose) {
		n.flush()
	}
	if n.err != nil {
		return n.err
	}
	n.err = errors.New("write NAR: closed")
	return nil
}

// endData ends the file if all of it is written.
func (n *Writer) endData() {
	if n.state == wantData && n.left == 0 {
		var zeros [8]byte
		n.buf = append(n.buf, zeros[:n.pad]...)
		n.endNode()
	}
}

// endNode ends a node and the entry that it is the node of.
func (n *Writer) endNode() {
	n.strings(")")
	if len(n.open) == 0 {
		n.state = wantClose
		return
	}
	n.strings(")")
	n.state = wantEntry
}

// expect says whether the call is in order.
func (n *Writer) expect(call string, s state) bool {
	if n.err == nil && n.state != s {
		n.err = fmt.Errorf("write NAR: %s is out of order", call)
	}
	return n.err == nil
}

func (n *Writer) strings(list ...string) {
	for _, s := range list {
		n.buf = binary.LittleEndian.AppendUint64(n.buf, uint64(len(s)))
		n.buf = append(n.buf, s...)
		var zeros [8]byte
		n.buf = append(n.buf, zeros[:padding(uint64(len(s)))]...)
	}
	if len(n.buf) >= bufferSize {
		n.flush()
	}
}

func (n *Writer) flush() {
	if n.err == nil {
		_, n.err = n.w.Write(n.buf)
	}
	n.buf = n.buf[:0]
}

// padding is how many zeros follow size bytes.
func padding(size uint64) int { return int(-size & 7) }
