package pathinfo

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
)

// The fields of the messages, as in spec/store.md 1.2.
const (
	fieldNode       = 1 // PathInfo
	fieldReferences = 2
	fieldNARInfo    = 3

	fieldNarSize        = 1 // NARInfo
	fieldNarSHA256      = 2
	fieldSignatures     = 3
	fieldReferenceNames = 4
	fieldDeriver        = 5
	fieldCA             = 6

	fieldFirst  = 1 // Signature: name; StorePath: name; CA: type
	fieldSecond = 2 // Signature: data; StorePath: digest; CA: digest
)

// Encode returns the canonical protobuf encoding (store.v1 PathInfo) of p, or
// an error if p breaks the rules of Check.
func (p *PathInfo) Encode() ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	return p.encode(), nil
}

func (p *PathInfo) encode() []byte {
	entry := castore.AppendEntry(nil, castore.Entry{Name: p.StorePath.String(), Node: p.Node})
	b := appendBytes(nil, fieldNode, entry)
	for _, r := range p.References {
		b = appendBytes(b, fieldReferences, r.Hash[:])
	}
	var n []byte
	if p.NarSize != 0 {
		n = appendVarint(n, fieldNarSize, p.NarSize)
	}
	n = appendBytes(n, fieldNarSHA256, p.NarSHA256[:])
	for _, s := range p.Signatures {
		m := appendBytes(nil, fieldFirst, []byte(s.Name))
		n = appendBytes(n, fieldSignatures, appendBytes(m, fieldSecond, s.Data[:]))
	}
	for _, r := range p.References {
		n = appendBytes(n, fieldReferenceNames, []byte(r.String()))
	}
	if p.Deriver != nil {
		m := appendBytes(nil, fieldFirst, []byte(p.Deriver.Name))
		n = appendBytes(n, fieldDeriver, appendBytes(m, fieldSecond, p.Deriver.Hash[:]))
	}
	if p.CA != nil {
		var m []byte
		if p.CA.Type != 0 {
			m = appendVarint(m, fieldFirst, uint64(p.CA.Type))
		}
		n = appendBytes(n, fieldCA, appendBytes(m, fieldSecond, p.CA.Digest))
	}
	return appendBytes(b, fieldNARInfo, n)
}

func appendBytes(b []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), value)
}

func appendVarint(b []byte, field protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), value)
}

// Parse parses and checks a path info. Only the canonical encoding is taken.
func Parse(encoded []byte) (*PathInfo, error) {
	p, err := parse(encoded)
	if err == nil {
		err = p.Check()
	}
	if err != nil {
		return nil, fmt.Errorf("parse path info: %w", err)
	}
	if !bytes.Equal(p.encode(), encoded) {
		return nil, errors.New("parse path info: not the canonical encoding (fields out of order, unknown or repeated)")
	}
	return p, nil
}

// field is one field of a message: value if it is bytes, else number.
type field struct {
	field  protowire.Number
	isBin  bool
	value  []byte
	number uint64
}

// eachField calls f for the fields of a message.
func eachField(b []byte, f func(field) error) error {
	for len(b) > 0 {
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		x := field{field: number}
		switch wire {
		case protowire.BytesType:
			x.isBin = true
			x.value, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			x.number, n = protowire.ConsumeVarint(b)
		default:
			return x.unknown()
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := f(x); err != nil {
			return err
		}
	}
	return nil
}

func (x field) unknown() error { return fmt.Errorf("unknown field %d", x.field) }

// parse parses encoded without the checks that Check and the comparison with
// the canonical encoding make.
func parse(encoded []byte) (*PathInfo, error) {
	p := &PathInfo{}
	var hashes [][]byte
	var names []string
	hasNode, hasNARInfo := false, false
	err := eachField(encoded, func(x field) error {
		switch {
		case !x.isBin:
			return x.unknown()
		case x.field == fieldNode:
			e, err := castore.ParseEntry(x.value)
			if err != nil {
				return err
			}
			hasNode, p.Node = true, e.Node
			p.StorePath, err = storepath.Parse(e.Name)
			return err
		case x.field == fieldReferences:
			hashes = append(hashes, x.value)
			return nil
		case x.field == fieldNARInfo:
			var err error
			hasNARInfo = true
			names, err = p.parseNARInfo(x.value)
			return err
		}
		return x.unknown()
	})
	switch {
	case err != nil:
		return nil, err
	case !hasNode:
		return nil, errors.New("no root node")
	case !hasNARInfo:
		return nil, errors.New("no NAR info")
	case len(hashes) != len(names):
		return nil, fmt.Errorf("%d references with %d names", len(hashes), len(names))
	}
	for i, name := range names {
		r, err := storepath.Parse(name)
		if err != nil {
			return nil, fmt.Errorf("reference: %w", err)
		}
		if !bytes.Equal(r.Hash[:], hashes[i]) {
			return nil, fmt.Errorf("reference %s does not have the hash %x that stands for it", name, hashes[i])
		}
		p.References = append(p.References, r)
	}
	return p, nil
}

// parseNARInfo parses a NARInfo message into p and returns the names of the
// references.
func (p *PathInfo) parseNARInfo(b []byte) (names []string, err error) {
	hasHash := false
	err = eachField(b, func(x field) error {
		switch {
		case x.field == fieldNarSize && !x.isBin:
			p.NarSize = x.number
			return nil
		case !x.isBin:
			return x.unknown()
		}
		switch x.field {
		case fieldNarSHA256:
			if len(x.value) != sha256.Size {
				return fmt.Errorf("NAR hash of %d bytes instead of %d", len(x.value), sha256.Size)
			}
			hasHash, p.NarSHA256 = true, [sha256.Size]byte(x.value)
		case fieldSignatures:
			name, data, err := parsePair(x.value)
			if err != nil {
				return fmt.Errorf("signature: %w", err)
			}
			if len(data) != SignatureSize {
				return fmt.Errorf("signature of %d bytes instead of %d", len(data), SignatureSize)
			}
			p.Signatures = append(p.Signatures, Signature{name, [SignatureSize]byte(data)})
		case fieldReferenceNames:
			names = append(names, string(x.value))
		case fieldDeriver:
			name, data, err := parsePair(x.value)
			if err != nil {
				return fmt.Errorf("deriver: %w", err)
			}
			if len(data) != storepath.HashSize {
				return fmt.Errorf("deriver with a hash of %d bytes instead of %d", len(data), storepath.HashSize)
			}
			p.Deriver = &storepath.StorePath{Hash: storepath.Hash(data), Name: name}
		case fieldCA:
			ca, err := parseCAMessage(x.value)
			if err != nil {
				return fmt.Errorf("content address: %w", err)
			}
			p.CA = ca
		default:
			return x.unknown()
		}
		return nil
	})
	if err == nil && !hasHash {
		err = errors.New("no NAR hash")
	}
	return names, err
}

// parsePair parses a message of a string and bytes.
func parsePair(b []byte) (name string, data []byte, err error) {
	err = eachField(b, func(x field) error {
		switch {
		case x.field == fieldFirst && x.isBin:
			name = string(x.value)
		case x.field == fieldSecond && x.isBin:
			data = x.value
		default:
			return x.unknown()
		}
		return nil
	})
	return name, data, err
}

func parseCAMessage(b []byte) (*CA, error) {
	ca := &CA{}
	err := eachField(b, func(x field) error {
		switch {
		case x.field == fieldFirst && !x.isBin:
			if x.number > uint64(CAFlatSHA512) {
				return fmt.Errorf("unknown type %d", x.number)
			}
			ca.Type = CAType(x.number)
		case x.field == fieldSecond && x.isBin:
			ca.Digest = bytes.Clone(x.value)
		default:
			return x.unknown()
		}
		return nil
	})
	return ca, err
}
