// Package storepath is the syntax of Nix store paths: 32 characters of
// nixbase32, a dash, and a name.
//
//	/nix/store/ HASH(32) - NAME(1..211 of 0-9a-zA-Z+-_?=.)
//
// Source: spec/store.md 1.4 and 1.7; the Nix manual, "Store Path".
package storepath

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/nix-community/go-nix/pkg/nixbase32"
)

const (
	// StoreDir is the only store directory there is: a path of another one
	// has other hashes.
	StoreDir = "/nix/store"
	// HashSize is the length of a store path's hash in bytes.
	HashSize = 20
	// hashChars is HashSize bytes in nixbase32.
	hashChars = 32
	// MaxName is the longest name, in bytes.
	MaxName = 211
)

// Hash is the hash part of a store path; with it alone a path is looked up.
type Hash [HashSize]byte

// String is the hash in nixbase32, 32 characters.
func (h Hash) String() string { return nixbase32.EncodeToString(h[:]) }

// StorePath is one path directly below [StoreDir].
type StorePath struct {
	Hash Hash
	Name string
}

// String is the base name, HASH-NAME.
func (p StorePath) String() string { return p.Hash.String() + "-" + p.Name }

// Absolute is the whole path.
func (p StorePath) Absolute() string { return StoreDir + "/" + p.String() }

// Parse parses a base name, HASH-NAME.
func Parse(base string) (StorePath, error) {
	if len(base) < hashChars+2 || base[hashChars] != '-' {
		return StorePath{}, fmt.Errorf("store path %q: not of the form HASH-NAME with a hash of %d characters", base, hashChars)
	}
	hash, err := ParseHash(base[:hashChars])
	if err != nil {
		return StorePath{}, fmt.Errorf("store path %q: %w", base, err)
	}
	name := base[hashChars+1:]
	if err := CheckName(name); err != nil {
		return StorePath{}, fmt.Errorf("store path %q: %w", base, err)
	}
	return StorePath{Hash: hash, Name: name}, nil
}

// ParseHash parses the 32 nixbase32 characters of a hash part.
func ParseHash(s string) (Hash, error) {
	if len(s) != hashChars {
		return Hash{}, fmt.Errorf("hash %q: %d characters instead of %d", s, len(s), hashChars)
	}
	b, err := nixbase32.DecodeString(s)
	if err != nil {
		return Hash{}, fmt.Errorf("hash %q: %w", s, err)
	}
	return Hash(b), nil
}

// ParseAbsolute parses a path at or below a store path and returns the store
// path and what follows it, without a leading slash ("" for the path itself).
func ParseAbsolute(path string) (StorePath, string, error) {
	rest, ok := strings.CutPrefix(path, StoreDir+"/")
	if !ok {
		return StorePath{}, "", fmt.Errorf("path %q is not below %s", path, StoreDir)
	}
	base, sub, _ := strings.Cut(rest, "/")
	p, err := Parse(base)
	if err != nil {
		return StorePath{}, "", err
	}
	return p, strings.Trim(sub, "/"), nil
}

// CheckName says whether name can be the name of a store path.
func CheckName(name string) error {
	if name == "" {
		return errors.New("empty name")
	}
	if len(name) > MaxName {
		return fmt.Errorf("name of %d bytes is longer than %d", len(name), MaxName)
	}
	for i := range len(name) {
		if !nameByte(name[i]) {
			return fmt.Errorf("character %q is not allowed in a name (allowed: letters, digits and +-_?=.)", name[i])
		}
	}
	return nil
}

func nameByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("+-_?=.", c) >= 0
}

// FromNARHash is the path that Nix gives a tree added by content (nix-store
// --add, builtins.path): type source, hashed as NAR, no references.
func FromNARHash(name string, narSHA256 [sha256.Size]byte) (StorePath, error) {
	return Make("source", narSHA256, name)
}

// Make is the path that Nix makes of a type ("source", "text" or "output:out",
// the first two followed by their references, each after a colon), the SHA-256
// of what the type speaks of, and a name (Nix, Store::makeStorePath).
func Make(kind string, inner [sha256.Size]byte, name string) (StorePath, error) {
	if err := CheckName(name); err != nil {
		return StorePath{}, fmt.Errorf("store path name %q: %w", name, err)
	}
	sum := sha256.Sum256([]byte(kind + ":sha256:" + hex.EncodeToString(inner[:]) + ":" + StoreDir + ":" + name))
	var h Hash
	for i, b := range sum { // Nix folds the digest to 20 bytes by XOR
		h[i%HashSize] ^= b
	}
	return StorePath{Hash: h, Name: name}, nil
}
