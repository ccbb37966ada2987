package pathinfo

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/nix-community/go-nix/pkg/nixbase32"
)

// CAType is a way to address a store path by contents. The values are those of
// the enum NARInfo.CA.Hash.
type CAType uint8

const (
	CANARSHA256  CAType = 0 // the NAR
	CANARSHA1    CAType = 1
	CANARSHA512  CAType = 2
	CANARMD5     CAType = 3
	CATextSHA256 CAType = 4 // a file with references, as builtins.toFile makes
	CAFlatSHA1   CAType = 5 // the contents of a file
	CAFlatMD5    CAType = 6
	CAFlatSHA256 CAType = 7
	CAFlatSHA512 CAType = 8
)

// CA says what a store path's name follows from.
type CA struct {
	Type   CAType
	Digest []byte // of the length of the type's hash
}

// caForm is how Nix writes a type, and the length of its digest.
type caForm struct {
	prefix string
	size   int
}

// form is the form of t; its size is 0 if there is no such type.
func (t CAType) form() caForm {
	switch t {
	case CANARSHA256:
		return caForm{"fixed:r:sha256:", 32}
	case CANARSHA1:
		return caForm{"fixed:r:sha1:", 20}
	case CANARSHA512:
		return caForm{"fixed:r:sha512:", 64}
	case CANARMD5:
		return caForm{"fixed:r:md5:", 16}
	case CATextSHA256:
		return caForm{"text:sha256:", 32}
	case CAFlatSHA1:
		return caForm{"fixed:sha1:", 20}
	case CAFlatMD5:
		return caForm{"fixed:md5:", 16}
	case CAFlatSHA256:
		return caForm{"fixed:sha256:", 32}
	case CAFlatSHA512:
		return caForm{"fixed:sha512:", 64}
	}
	return caForm{}
}

// ParseCA parses what Nix writes: text:ALGORITHM:HASH, fixed:ALGORITHM:HASH or
// fixed:r:ALGORITHM:HASH, with the hash in nixbase32 or hexadecimal.
func ParseCA(s string) (*CA, error) {
	for t := CANARSHA256; t <= CAFlatSHA512; t++ {
		f := t.form()
		hash, ok := strings.CutPrefix(s, f.prefix)
		if !ok {
			continue
		}
		decode := nixbase32.DecodeString
		if len(hash) == hex.EncodedLen(f.size) {
			decode = hex.DecodeString
		}
		raw, err := decode(hash)
		if err != nil {
			return nil, fmt.Errorf("content address %q: %w", s, err)
		}
		ca := &CA{Type: t, Digest: raw}
		if err := ca.check(); err != nil {
			return nil, fmt.Errorf("content address %q: %w", s, err)
		}
		return ca, nil
	}
	return nil, fmt.Errorf("content address %q is of an unknown kind (known: text:sha256, fixed and fixed:r with md5, sha1, sha256 and sha512)", s)
}

// String is Nix's form, with the hash in nixbase32.
func (c *CA) String() string {
	return c.Type.form().prefix + nixbase32.EncodeToString(c.Digest)
}

func (c *CA) check() error {
	f := c.Type.form()
	if f.size == 0 {
		return fmt.Errorf("unknown type of content address %d", c.Type)
	}
	if len(c.Digest) != f.size {
		return fmt.Errorf("content address %s with a hash of %d bytes instead of %d", strings.TrimSuffix(f.prefix, ":"), len(c.Digest), f.size)
	}
	return nil
}
