package pathinfo

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// PublicKey is a key that signatures of path infos are checked with. Make one
// with [ParsePublicKey].
type PublicKey struct {
	name string
	key  [ed25519.PublicKeySize]byte
}

// ParsePublicKey parses NAME:BASE64, the form of Nix's trusted-public-keys: the
// base64 of the 32 bytes of an ed25519 key.
func ParsePublicKey(s string) (PublicKey, error) {
	name, b64, ok := strings.Cut(s, ":")
	if !ok {
		return PublicKey{}, fmt.Errorf("public key %q: not of the form NAME:BASE64", s)
	}
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f }
	if name == "" || !utf8.ValidString(name) || strings.ContainsFunc(name, bad) {
		return PublicKey{}, fmt.Errorf("public key: the name %q is not allowed", name)
	}
	raw, err := base64.StdEncoding.DecodeString(b64)
	switch {
	case err != nil:
		return PublicKey{}, fmt.Errorf("public key %s: what is after the colon is not base64", name)
	case len(raw) == ed25519.PrivateKeySize:
		return PublicKey{}, fmt.Errorf("public key %s: it has %d bytes: this is the secret key", name, len(raw))
	case len(raw) != ed25519.PublicKeySize:
		return PublicKey{}, fmt.Errorf("public key %s: %d bytes instead of %d", name, len(raw), ed25519.PublicKeySize)
	}
	return PublicKey{name, [ed25519.PublicKeySize]byte(raw)}, nil
}

// ParsePublicKeys parses several keys with white space between them.
func ParsePublicKeys(s string) ([]PublicKey, error) {
	var keys []PublicKey
	for _, field := range strings.Fields(s) {
		k, err := ParsePublicKey(field)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// Name is the name of the key.
func (k PublicKey) Name() string { return k.name }

// String is Nix's form, NAME:BASE64.
func (k PublicKey) String() string {
	return k.name + ":" + base64.StdEncoding.EncodeToString(k.key[:])
}

// Verify says whether sig is the signature of fingerprint by k.
func (k PublicKey) Verify(fingerprint string, sig Signature) bool {
	return sig.Name == k.name && ed25519.Verify(k.key[:], []byte(fingerprint), sig.Data[:])
}

// ErrNotSigned is what [PathInfo.CheckSignature] returns, wrapped, if no key
// that is trusted has signed the path info.
var ErrNotSigned = errors.New("no signature by a trusted key")

// CheckSignature returns nil if one of keys has signed p. The error says which
// keys have, as far as p claims it.
func (p *PathInfo) CheckSignature(keys []PublicKey) error {
	fingerprint := p.Fingerprint()
	var claimed []string
	for _, sig := range p.Signatures {
		claim := sig.Name
		for _, k := range keys {
			if k.Verify(fingerprint, sig) {
				return nil
			}
			if k.name == sig.Name {
				claim = sig.Name + " (which does not verify)"
			}
		}
		claimed = append(claimed, claim)
	}
	if claimed == nil {
		return fmt.Errorf("%s: %w: it has no signature at all", p.StorePath, ErrNotSigned)
	}
	return fmt.Errorf("%s: %w: it has those of %s", p.StorePath, ErrNotSigned, strings.Join(claimed, ", "))
}
