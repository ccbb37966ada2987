package castore

import (
	"bytes"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of the messages that a Directory and an Entry (Node) hold. Name is
// 1 in all of them, and Kind is the field of the holder.
const (
	fieldName       = 1
	fieldDigest     = 2 // directory, file
	fieldTarget     = 2 // symlink
	fieldSize       = 3 // directory, file
	fieldExecutable = 4 // file
)

// AppendEntry appends the canonical protobuf encoding of e to b: the Entry
// (Node) message, which is also the form in which a Directory holds e. An
// empty name is left out; e is not checked.
func AppendEntry(b []byte, e Entry) []byte {
	b = protowire.AppendTag(b, protowire.Number(e.Kind), protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(entryLen(e)))
	if e.Name != "" {
		b = protowire.AppendTag(b, fieldName, protowire.BytesType)
		b = protowire.AppendString(b, e.Name)
	}
	if e.Kind == KindSymlink {
		if e.Target == "" {
			return b
		}
		b = protowire.AppendTag(b, fieldTarget, protowire.BytesType)
		return protowire.AppendString(b, e.Target)
	}
	b = protowire.AppendTag(b, fieldDigest, protowire.BytesType)
	b = protowire.AppendBytes(b, e.Digest[:])
	if e.Size != 0 {
		b = protowire.AppendTag(b, fieldSize, protowire.VarintType)
		b = protowire.AppendVarint(b, e.Size)
	}
	if e.Kind == KindFile && e.Executable {
		b = protowire.AppendTag(b, fieldExecutable, protowire.VarintType)
		b = protowire.AppendVarint(b, 1)
	}
	return b
}

// entryLen is the length of the message within AppendEntry's.
func entryLen(e Entry) int {
	n := 0
	if e.Name != "" {
		n += 1 + protowire.SizeBytes(len(e.Name))
	}
	if e.Kind == KindSymlink {
		if e.Target != "" {
			n += 1 + protowire.SizeBytes(len(e.Target))
		}
		return n
	}
	n += 1 + protowire.SizeBytes(DigestSize)
	if e.Size != 0 {
		n += 1 + protowire.SizeVarint(e.Size)
	}
	if e.Kind == KindFile && e.Executable {
		n += 2
	}
	return n
}

// ParseEntry parses and checks an Entry (Node) message, strictly: only the
// canonical encoding is taken. An empty name is allowed, as roots of trees have
// none.
func ParseEntry(b []byte) (Entry, error) {
	kind, wire, n := protowire.ConsumeTag(b)
	if n < 0 {
		return Entry{}, fmt.Errorf("parse entry: %w", protowire.ParseError(n))
	}
	message, m := protowire.ConsumeBytes(b[n:])
	if wire != protowire.BytesType || m < 0 || n+m != len(b) {
		return Entry{}, errors.New("parse entry: not one directory, file or symlink")
	}
	e, err := parseEntryMessage(kind, message)
	if err != nil {
		return Entry{}, fmt.Errorf("parse entry: %w", err)
	}
	if err := e.Node.Check(); err != nil {
		return Entry{}, fmt.Errorf("parse entry: %w", err)
	}
	if e.Name != "" {
		if err := CheckName(e.Name); err != nil {
			return Entry{}, fmt.Errorf("parse entry: %w", err)
		}
	}
	if !bytes.Equal(AppendEntry(nil, e), b) {
		return Entry{}, errors.New("parse entry: not the canonical encoding")
	}
	return e, nil
}

// parseDirectoryEntries splits a Directory message into its entries, in the
// order in which they stand. They are not checked.
func parseDirectoryEntries(b []byte) ([]Entry, error) {
	var entries []Entry
	for len(b) > 0 {
		kind, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		if wire != protowire.BytesType {
			return nil, fmt.Errorf("unknown field %d", kind)
		}
		b = b[n:]
		message, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		e, err := parseEntryMessage(kind, message)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
		b = b[n:]
	}
	return entries, nil
}

// parseEntryMessage parses the DirectoryEntry, FileEntry or SymlinkEntry of the
// field kind. Lengths and types are checked, values are not.
func parseEntryMessage(kind protowire.Number, b []byte) (Entry, error) {
	if kind < protowire.Number(KindDirectory) || kind > protowire.Number(KindSymlink) {
		return Entry{}, fmt.Errorf("unknown field %d", kind)
	}
	e := Entry{Node: Node{Kind: Kind(kind)}}
	hasDigest := false
	for len(b) > 0 {
		field, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return Entry{}, protowire.ParseError(n)
		}
		b = b[n:]
		var value []byte
		var number uint64
		switch wire {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		default:
			return Entry{}, fmt.Errorf("field %d of an entry has wire type %d", field, wire)
		}
		if n < 0 {
			return Entry{}, protowire.ParseError(n)
		}
		b = b[n:]
		isBytes := wire == protowire.BytesType
		switch {
		case field == fieldName && isBytes:
			e.Name = string(value)
		case field == fieldTarget && isBytes && e.Kind == KindSymlink:
			e.Target = string(value)
		case field == fieldDigest && isBytes && e.Kind != KindSymlink:
			d, err := DigestFromBytes(value)
			if err != nil {
				return Entry{}, fmt.Errorf("entry %q: %w", e.Name, err)
			}
			e.Digest, hasDigest = d, true
		case field == fieldSize && !isBytes && e.Kind != KindSymlink:
			e.Size = number
		case field == fieldExecutable && !isBytes && e.Kind == KindFile:
			e.Executable = number != 0
		default:
			return Entry{}, fmt.Errorf("entry %q has the unknown field %d", e.Name, field)
		}
	}
	if e.Kind != KindSymlink && !hasDigest {
		return Entry{}, fmt.Errorf("entry %q has no digest", e.Name)
	}
	return e, nil
}
