package castore

import "fmt"

// Kind is what a [Node] is. The values are the field numbers of the protobuf
// Entry (Node) message.
type Kind uint8

const (
	KindDirectory Kind = 1
	KindFile      Kind = 2
	KindSymlink   Kind = 3
)

// String is the word for the kind.
func (k Kind) String() string {
	switch k {
	case KindDirectory:
		return "directory"
	case KindFile:
		return "file"
	case KindSymlink:
		return "symlink"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Node is a directory, a file or a symlink, without a name. Which fields count
// depends on Kind: a directory has Digest and Size (that of
// [Directory.Size]), a file has Digest, Size (bytes) and Executable, a symlink has
// Target alone.
type Node struct {
	Kind       Kind
	Executable bool
	Size       uint64
	Digest     Digest
	Target     string // 1 to 4095 bytes, no NUL
}

// Entry is a named child of a directory. Name is 1 to 255 bytes without NUL
// and slash, and neither "." nor "..".
type Entry struct {
	Name string
	Node
}
