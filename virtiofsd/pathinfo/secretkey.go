package pathinfo

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// maxKeyFile is the longest key file that is read, in bytes; one has about 120.
const maxKeyFile = 4096

// SecretKey is a key that signs path infos. Make one with [ParseSecretKey].
type SecretKey struct {
	name string
	key  ed25519.PrivateKey
}

// ParseSecretKey parses NAME:BASE64, the form in which Nix writes a secret key
// (nix-store --generate-binary-cache-key): the base64 of 64 bytes, the seed of
// an ed25519 key and its public key. Errors do not repeat the key.
func ParseSecretKey(s string) (SecretKey, error) {
	name, b64, ok := strings.Cut(s, ":")
	if !ok {
		return SecretKey{}, errors.New("secret key: not of the form NAME:BASE64")
	}
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f }
	if name == "" || !utf8.ValidString(name) || strings.ContainsFunc(name, bad) {
		return SecretKey{}, fmt.Errorf("secret key: the name %q is not allowed", name)
	}
	raw, err := base64.StdEncoding.DecodeString(b64)
	switch {
	case err != nil:
		return SecretKey{}, fmt.Errorf("secret key %s: what is after the colon is not base64", name)
	case len(raw) == ed25519.PublicKeySize:
		return SecretKey{}, fmt.Errorf("secret key %s: it has %d bytes: this is the public key", name, len(raw))
	case len(raw) != ed25519.PrivateKeySize:
		return SecretKey{}, fmt.Errorf("secret key %s: %d bytes instead of %d", name, len(raw), ed25519.PrivateKeySize)
	}
	key := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	if !bytes.Equal(key, raw) {
		return SecretKey{}, fmt.Errorf("secret key %s: its public half does not belong to its secret half", name)
	}
	return SecretKey{name, key}, nil
}

// ReadSecretKey reads a key from a file, with white space around it or not.
func ReadSecretKey(file string) (SecretKey, error) {
	f, err := os.Open(file)
	if err != nil {
		return SecretKey{}, fmt.Errorf("read secret key: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(b) > maxKeyFile {
		err = fmt.Errorf("longer than %d bytes", maxKeyFile)
	}
	if err != nil {
		return SecretKey{}, fmt.Errorf("read secret key %s: %w", file, err)
	}
	k, err := ParseSecretKey(strings.TrimSpace(string(b)))
	if err != nil {
		return SecretKey{}, fmt.Errorf("%s: %w", file, err)
	}
	return k, nil
}

// Name is the name of the key.
func (k SecretKey) Name() string { return k.name }

// Public is the public key in Nix's form, NAME:BASE64.
func (k SecretKey) Public() string {
	return k.name + ":" + base64.StdEncoding.EncodeToString(k.key.Public().(ed25519.PublicKey))
}

// Sign signs a fingerprint.
func (k SecretKey) Sign(fingerprint string) Signature {
	return Signature{Name: k.name, Data: [SignatureSize]byte(ed25519.Sign(k.key, []byte(fingerprint)))}
}
