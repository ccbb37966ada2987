package nar

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxDepth is how many directories the reader follows into one another. Only an
// archive that is made to exhaust the memory has more: a path on Linux is not
// longer than 4096 bytes.
const MaxDepth = 1 << 16

// Kind is what an [Event] says.
type Kind uint8

const (
	Directory    Kind = iota // a directory begins
	EndDirectory             // the innermost directory ends
	File                     // a file, whose contents [Reader.Read] returns
	Symlink
)

// Event is one step through the tree, in the order of the archive. Name is
// empty for the root and for EndDirectory.
type Event struct {
	Kind       Kind
	Name       string
	Target     string // of a symlink: 1 to 4095 bytes, no NUL
	Size       uint64 // of a file, in bytes; below 1<<63
	Executable bool   // of a file
}

// Reader reads one NAR and refuses all that is not exactly the form in which
// [Writer] would have written the tree, so that a tree has one archive. After
// an error it refuses further use.
//
// It holds the last name of each open directory and a buffer of 32 KiB,
// whatever the archive says.
type Reader struct {
	r     *bufio.Reader
	open  []string // the last name in each open directory, outermost first
	begun bool
	done  bool
	left  uint64 // of the file that is being read, in bytes
	pad   int    // bytes behind it
	file  bool   // contents are being read: the end of the node is to come
	err   error  // the first one
	buf   [maxTarget + 1]byte
}

// NewReader makes a reader of the one NAR that r holds. It may read r to its
// end: a NAR has nothing behind it.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, bufferSize)}
}

// Next returns the next event; contents of a file that were not read are
// skipped. Behind the last one it returns io.EOF. An archive that ends early is
// io.ErrUnexpectedEOF.
func (n *Reader) Next() (Event, error) {
	if n.err != nil {
		return Event{}, n.err
	}
	e, err := n.next()
	if err == nil {
		return e, nil
	}
	if n.err = err; err != io.EOF {
		n.err = fmt.Errorf("read NAR: %w", err)
	}
	return Event{}, n.err
}

// Read reads the contents of the file that Next returned last, and returns
// io.EOF at their end.
func (n *Reader) Read(p []byte) (int, error) {
	switch {
	case n.err != nil:
		return 0, n.err
	case !n.file:
		return 0, errors.New("read NAR: Read without a file")
	case n.left == 0:
		return 0, io.EOF
	}
	m, err := n.r.Read(p[:min(uint64(len(p)), n.left)])
	n.left -= uint64(m)
	if err != nil {
		n.err = fmt.Errorf("read NAR: %w", early(err))
	}
	return m, n.err
}

func (n *Reader) next() (Event, error) {
	if n.done {
		return Event{}, io.EOF
	}
	if !n.begun {
		n.begun = true
		if err := n.magic(); err != nil {
			return Event{}, err
		}
		return n.node("")
	}
	if n.file {
		if err := n.endFile(); err != nil {
			return Event{}, err
		}
	}
	if len(n.open) == 0 {
		return Event{}, n.end()
	}
	word, err := n.word()
	switch {
	case err != nil:
		return Event{}, err
	case word == ")":
		n.open = n.open[:len(n.open)-1]
		return Event{Kind: EndDirectory}, n.endEntry()
	case word != "entry":
		return Event{}, fmt.Errorf("%q where an entry or the end of a directory has to be", word)
	}
	name, err := n.entryName()
	if err != nil {
		return Event{}, err
	}
	return n.node(name)
}

// magic reads the beginning.
func (n *Reader) magic() error {
	switch word, err := n.word(); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return err
	case err != nil || word != magic:
		return errors.New("it is not a NAR")
	}
	return nil
}

// end makes sure that there is nothing more.
func (n *Reader) end() error {
	n.done = true
	_, err := n.r.ReadByte()
	if err == nil {
		err = errors.New("there is more behind its end")
	}
	return err
}

// entryName reads what comes between "entry" and its node.
func (n *Reader) entryName() (string, error) {
	if err := n.expect("(", "name"); err != nil {
		return "", err
	}
	b, err := n.bytes(maxName)
	if err != nil {
		return "", fmt.Errorf("name: %w", err)
	}
	name := string(b)
	last := &n.open[len(n.open)-1]
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return "", fmt.Errorf("the name %q is not allowed", name)
	case name <= *last:
		return "", fmt.Errorf("the name %q comes after %q", name, *last)
	}
	*last = name
	return name, n.expect("node")
}

// node reads a node up to its contents or its first entry.
func (n *Reader) node(name string) (Event, error) {
	if err := n.expect("(", "type"); err != nil {
		return Event{}, err
	}
	word, err := n.word()
	if err != nil {
		return Event{}, err
	}
	e := Event{Name: name}
	switch word {
	case "directory":
		e.Kind = Directory
		if len(n.open) == MaxDepth {
			return Event{}, fmt.Errorf("more than %d directories in one another", MaxDepth)
		}
		n.open = append(n.open, "")
		return e, nil
	case "symlink":
		e.Kind = Symlink
		return e, n.symlink(&e)
	case "regular":
		e.Kind = File
		return e, n.beginFile(&e)
	}
	return Event{}, fmt.Errorf("unknown type %q of a node", word)
}

func (n *Reader) symlink(e *Event) error {
	if err := n.expect("target"); err != nil {
		return err
	}
	b, err := n.bytes(maxTarget)
	if err != nil {
		return fmt.Errorf("symlink target: %w", err)
	}
	e.Target = string(b)
	if e.Target == "" || strings.IndexByte(e.Target, 0) >= 0 {
		return fmt.Errorf("the symlink target %q is not allowed", e.Target)
	}
	if err := n.expect(")"); err != nil {
		return err
	}
	return n.endEntry()
}

func (n *Reader) beginFile(e *Event) error {
	word, err := n.word()
	if err == nil && word == "executable" {
		e.Executable = true
		if err = n.expect(""); err == nil {
			word, err = n.word()
		}
	}
	if err != nil {
		return err
	}
	if word != "contents" {
		return fmt.Errorf("%q where the contents of a file have to be", word)
	}
	if e.Size, err = n.number(); err != nil {
		return err
	}
	if e.Size > 1<<63-1 {
		return fmt.Errorf("a file of %d bytes is too large", e.Size)
	}
	n.left, n.pad, n.file = e.Size, padding(e.Size), true
	return nil
}

// endFile skips what was not read of a file and ends its node.
func (n *Reader) endFile() error {
	for n.left > 0 {
		k, err := n.r.Discard(int(min(n.left, bufferSize)))
		n.left -= uint64(k)
		if err != nil {
			return early(err)
		}
	}
	n.file = false
	if err := n.zeros(n.pad); err != nil {
		return err
	}
	if err := n.expect(")"); err != nil {
		return err
	}
	return n.endEntry()
}

// endEntry ends the entry that a node is in.
func (n *Reader) endEntry() error {
	if len(n.open) == 0 {
		return nil
	}
	return n.expect(")")
}
