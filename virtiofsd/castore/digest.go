package castore

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// DigestSize is the length of a BLAKE3-256 digest in bytes.
const DigestSize = 32

// Digest names a blob or a directory.
type Digest [DigestSize]byte

// String is the form that snix prints: blake3- and standard base64.
func (d Digest) String() string { return "blake3-" + base64.StdEncoding.EncodeToString(d[:]) }

// Hex is the lower-case hexadecimal form of file names and keys.
func (d Digest) Hex() string { return hex.EncodeToString(d[:]) }

// ParseDigest parses the forms of snix (blake3-BASE64), of tvix (b3:BASE64)
// and plain hexadecimal.
func ParseDigest(s string) (Digest, error) {
	var raw []byte
	var err error
	if b, ok := strings.CutPrefix(s, "blake3-"); ok {
		raw, err = decodeBase64(b)
	} else if b, ok := strings.CutPrefix(s, "b3:"); ok {
		raw, err = decodeBase64(b)
	} else {
		raw, err = hex.DecodeString(s)
	}
	if err != nil {
		return Digest{}, fmt.Errorf("digest %q: %w", s, err)
	}
	return DigestFromBytes(raw)
}

// decodeBase64 decodes the one standard form. The package base64 alone would
// skip line breaks.
func decodeBase64(s string) ([]byte, error) {
	if i := strings.IndexAny(s, "\r\n"); i >= 0 {
		return nil, base64.CorruptInputError(i)
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

// DigestFromBytes checks the length of b.
func DigestFromBytes(b []byte) (Digest, error) {
	if len(b) != DigestSize {
		return Digest{}, fmt.Errorf("digest of %d bytes instead of %d", len(b), DigestSize)
	}
	return Digest(b), nil
}
