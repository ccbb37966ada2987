package narinfo

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/nix-community/go-nix/pkg/nixbase32"
)

// nixbase32Len is the length of a SHA-256 in nixbase32.
const nixbase32Len = 52

// ParseHash parses a SHA-256 as Nix writes it: sha256:HASH with the hash in
// nixbase32, hexadecimal or base64, or sha256-BASE64 (SRI).
func ParseHash(s string) ([sha256.Size]byte, error) {
	var sum [sha256.Size]byte
	text, ok := strings.CutPrefix(s, "sha256:")
	if !ok {
		if text, ok = strings.CutPrefix(s, "sha256-"); !ok {
			return sum, fmt.Errorf("hash %q is not of the form sha256:HASH", s)
		}
	}
	var decode func(string) ([]byte, error)
	switch len(text) {
	case nixbase32Len:
		decode = nixbase32.DecodeString
	case hex.EncodedLen(sha256.Size):
		decode = hex.DecodeString
	case base64.StdEncoding.EncodedLen(sha256.Size):
		decode = base64.StdEncoding.DecodeString
	default:
		return sum, fmt.Errorf("hash %q: a SHA-256 has %d characters in nixbase32, %d in hexadecimal, not %d", s, nixbase32Len, hex.EncodedLen(sha256.Size), len(text))
	}
	raw, err := decode(text)
	if err != nil {
		return sum, fmt.Errorf("hash %q: %w", s, err)
	}
	if len(raw) != sha256.Size {
		return sum, fmt.Errorf("hash %q: %d bytes instead of %d", s, len(raw), sha256.Size)
	}
	return [sha256.Size]byte(raw), nil
}
