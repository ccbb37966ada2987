package pathinfo

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
)

// PathInfo is what is known of one store path.
type PathInfo struct {
	StorePath storepath.StorePath
	// Node is the root of the tree that the path holds.
	Node castore.Node
	// References are the store paths that the contents refer to, in the order
	// in which Nix gave them; the path itself may be among them.
	References []storepath.StorePath
	// NarSize and NarSHA256 are those of the tree as a NAR, size in bytes.
	NarSize   uint64
	NarSHA256 [sha256.Size]byte
	// Signatures of the path, in any order.
	Signatures []Signature
	// Deriver is the derivation that built the path, without ".drv" at the end
	// of its name; nil if unknown.
	Deriver *storepath.StorePath
	// CA says how the store path follows from the contents; nil if it does not.
	CA *CA
}

// SignatureSize is the length of an ed25519 signature in bytes.
const SignatureSize = 64

// Signature is one key's signature of a path info.
type Signature struct {
	Name string // of the key: UTF-8 without colon, white space and control characters
	Data [SignatureSize]byte
}

// ParseSignature parses Nix's form NAME:BASE64.
func ParseSignature(s string) (Signature, error) {
	name, b64, ok := strings.Cut(s, ":")
	if !ok {
		return Signature{}, fmt.Errorf("signature %q: not of the form NAME:BASE64", s)
	}
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		return Signature{}, fmt.Errorf("signature %q: %w", s, err)
	}
	if len(raw) != SignatureSize {
		return Signature{}, fmt.Errorf("signature %q: %d bytes instead of %d", s, len(raw), SignatureSize)
	}
	sig := Signature{Name: name, Data: [SignatureSize]byte(raw)}
	return sig, sig.check()
}

// String is Nix's form NAME:BASE64.
func (s Signature) String() string {
	return s.Name + ":" + base64.StdEncoding.EncodeToString(s.Data[:])
}

func (s Signature) check() error {
	if s.Name == "" {
		return errors.New("signature without the name of its key")
	}
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f || r == ':' }
	if !utf8.ValidString(s.Name) || strings.ContainsFunc(s.Name, bad) {
		return fmt.Errorf("signature: the name of the key %q is not allowed", s.Name)
	}
	return nil
}

// Check says whether p keeps the rules of spec/store.md 1.4. Whether what it
// refers to exists is not its business.
func (p *PathInfo) Check() error {
	if err := p.check(); err != nil {
		return fmt.Errorf("path info of %s: %w", p.StorePath, err)
	}
	return nil
}

func (p *PathInfo) check() error {
	if err := storepath.CheckName(p.StorePath.Name); err != nil {
		return err
	}
	if err := p.Node.Check(); err != nil {
		return err
	}
	for _, r := range p.References {
		if err := storepath.CheckName(r.Name); err != nil {
			return fmt.Errorf("reference %s: %w", r, err)
		}
	}
	for _, s := range p.Signatures {
		if err := s.check(); err != nil {
			return err
		}
	}
	if p.Deriver != nil {
		if err := storepath.CheckName(p.Deriver.Name); err != nil {
			return fmt.Errorf("deriver %s: %w", p.Deriver, err)
		}
	}
	if p.CA != nil {
		return p.CA.check()
	}
	return nil
}
