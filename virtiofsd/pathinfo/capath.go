package pathinfo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"storeboot/internal/storepath"
)

// CheckCA says whether the store path of p follows from its content address and
// its references, as Nix makes it (Store::makeFixedOutputPath and
// makeTextPath), and, where the content address is the hash of the NAR, whether
// that is the NAR's. A path info without content address passes.
//
// Hashes of a kind that NarSHA256 does not tell (flat files, text, other
// algorithms, NARs that refer to themselves) are not compared with the
// contents.
func (p *PathInfo) CheckCA() error {
	if p.CA == nil {
		return nil
	}
	want, err := p.pathOfCA()
	if err != nil {
		return fmt.Errorf("content address %s of %s: %w", p.CA, p.StorePath, err)
	}
	if want != p.StorePath {
		return fmt.Errorf("content address %s: the path it makes is %s, not %s", p.CA, want, p.StorePath)
	}
	if p.CA.Type == CANARSHA256 && !p.refersToItself() && !bytes.Equal(p.CA.Digest, p.NarSHA256[:]) {
		return fmt.Errorf("content address %s of %s: it is not the hash of the NAR", p.CA, p.StorePath)
	}
	return nil
}

func (p *PathInfo) refersToItself() bool { return slices.Contains(p.References, p.StorePath) }

// pathOfCA is the store path that the content address, the references and the
// name of p make.
func (p *PathInfo) pathOfCA() (storepath.StorePath, error) {
	name := p.StorePath.Name
	switch p.CA.Type {
	case CATextSHA256:
		if p.refersToItself() {
			return storepath.StorePath{}, errors.New("a text cannot refer to itself")
		}
		return storepath.Make("text"+p.referenceSuffix(), [sha256.Size]byte(p.CA.Digest), name)
	case CANARSHA256:
		return storepath.Make("source"+p.referenceSuffix(), [sha256.Size]byte(p.CA.Digest), name)
	}
	if len(p.References) > 0 {
		return storepath.StorePath{}, errors.New("only text and the SHA-256 of a NAR can have references")
	}
	form, _ := strings.CutSuffix(p.CA.Type.form().prefix, ":")
	form, _ = strings.CutPrefix(form, "fixed:")
	inner := sha256.Sum256([]byte("fixed:out:" + form + ":" + hex.EncodeToString(p.CA.Digest) + ":"))
	return storepath.Make("output:out", inner, name)
}

// referenceSuffix is what the references add to the type of a path: each with a
// colon before it, by name, and ":self" at the end for the path itself.
func (p *PathInfo) referenceSuffix() string {
	var refs []string
	for _, r := range p.References {
		if r != p.StorePath {
			refs = append(refs, r.Absolute())
		}
	}
	slices.Sort(refs)
	var b strings.Builder
	for _, r := range slices.Compact(refs) {
		b.WriteString(":" + r)
	}
	if p.refersToItself() {
		b.WriteString(":self")
	}
	return b.String()
}
