package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nix-community/go-nix/pkg/nixbase32"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/nixdb"
	"storeboot/virtiofsd/pathinfo"
)

// maxClosureJSON is the longest description of a closure that is read, in bytes:
// that of a hundred thousand paths.
const maxClosureJSON = 256 << 20

// closurePath is a store path as Nix describes it in JSON. Other keys are passed
// over.
type closurePath struct {
	Path       string          `json:"path"`
	NarHash    string          `json:"narHash"`
	NarSize    *uint64         `json:"narSize"`
	References []string        `json:"references"`
	Deriver    string          `json:"deriver"`
	Signatures []string        `json:"signatures"`
	CA         json.RawMessage `json:"ca"`
}

// parseClosure reads what Nix says of a closure: the list under the key
// "closure", or, as later versions of 'nix path-info' give it, an object by
// path. The result is ordered: each path after those that it refers to.
func parseClosure(r io.Reader) ([]nixdb.ValidPath, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxClosureJSON+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxClosureJSON {
		return nil, fmt.Errorf("longer than %d bytes", maxClosureJSON)
	}
	var file struct {
		Closure json.RawMessage `json:"closure"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, err
	}
	if file.Closure == nil {
		return nil, errors.New(`there is no key "closure"`)
	}
	var list []closurePath
	if bytes.HasPrefix(file.Closure, []byte("{")) {
		byPath := map[string]*closurePath{}
		err = json.Unmarshal(file.Closure, &byPath)
		for path, p := range byPath {
			if p == nil {
				return nil, fmt.Errorf("%s is not a valid path of the Nix store", path)
			}
			p.Path = path
			list = append(list, *p)
		}
	} else {
		err = json.Unmarshal(file.Closure, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("closure: %w", err)
	}
	paths := make([]nixdb.ValidPath, len(list))
	for i, p := range list {
		if paths[i], err = p.validPath(); err != nil {
			return nil, fmt.Errorf("closure: %q: %w", p.Path, err)
		}
	}
	return inOrder(paths), nil
}

func (p *closurePath) validPath() (v nixdb.ValidPath, err error) {
	if v.StorePath, err = parseStorePath(p.Path); err != nil {
		return v, err
	}
	if v.NarSHA256, err = parseNARHash(p.NarHash); err != nil {
		return v, err
	}
	if p.NarSize == nil {
		return v, errors.New("narSize is missing")
	}
	v.NarSize = *p.NarSize
	for _, ref := range p.References {
		r, err := parseStorePath(ref)
		if err != nil {
			return v, fmt.Errorf("reference: %w", err)
		}
		v.References = append(v.References, r)
	}
	if p.Deriver != "" && p.Deriver != "unknown-deriver" {
		d, err := parseStorePath(strings.TrimSuffix(p.Deriver, ".drv"))
		if err != nil {
			return v, fmt.Errorf("deriver: %w", err)
		}
		v.Deriver = &d
	}
	for _, s := range p.Signatures {
		sig, err := pathinfo.ParseSignature(s)
		if err != nil {
			return v, err
		}
		v.Signatures = append(v.Signatures, sig)
	}
	// Versions of Nix differ in the form of ca; one that is not understood is
	// left out, as the original leaves out all.
	var ca string
	if json.Unmarshal(p.CA, &ca) == nil && ca != "" {
		v.CA, err = pathinfo.ParseCA(ca)
	}
	return v, err
}

// parseStorePath parses a whole path or, as some versions of Nix write it, its
// base name.
func parseStorePath(s string) (storepath.StorePath, error) {
	if !strings.Contains(s, "/") {
		return storepath.Parse(s)
	}
	p, sub, err := storepath.ParseAbsolute(s)
	if err == nil && sub != "" {
		err = fmt.Errorf("%q is a path below a store path", s)
	}
	return p, err
}

// parseNARHash parses sha256:HASH, in nixbase32 or hexadecimal, and the form
// sha256-BASE64 of newer versions of Nix.
func parseNARHash(s string) (sum [sha256.Size]byte, err error) {
	var raw []byte
	if text, ok := strings.CutPrefix(s, "sha256-"); ok {
		raw, err = base64.StdEncoding.DecodeString(text)
	} else if text, ok := strings.CutPrefix(s, "sha256:"); !ok {
		err = errors.New("of another kind")
	} else if len(text) == hex.EncodedLen(len(sum)) {
		raw, err = hex.DecodeString(text)
	} else {
		raw, err = nixbase32.DecodeString(text)
	}
	if err != nil || len(raw) != len(sum) {
		return sum, fmt.Errorf("narHash %q is not a SHA-256", s)
	}
	return [sha256.Size]byte(raw), nil
}

// inOrder sorts paths: each after those of the list that it refers to, else as
// they were. Each is there once.
func inOrder(paths []nixdb.ValidPath) []nixdb.ValidPath {
	index := map[storepath.StorePath]int{}
	for i, p := range paths {
		if _, twice := index[p.StorePath]; !twice {
			index[p.StorePath] = i
		}
	}
	sorted := make([]nixdb.ValidPath, 0, len(index))
	entered := make([]bool, len(paths))
	type visit struct{ path, next int }
	for i, p := range paths {
		if index[p.StorePath] != i || entered[i] {
			continue
		}
		entered[i] = true
		for stack := []visit{{path: i}}; len(stack) > 0; { // not recursive: chains may be long
			top := &stack[len(stack)-1]
			refs := paths[top.path].References
			if top.next == len(refs) {
				sorted = append(sorted, paths[top.path])
				stack = stack[:len(stack)-1]
				continue
			}
			ref, ok := index[refs[top.next]]
			top.next++
			if ok && !entered[ref] {
				entered[ref] = true
				stack = append(stack, visit{path: ref})
			}
		}
	}
	return sorted
}
