package narinfo

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nix-community/go-nix/pkg/nixbase32"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

const (
	// MaxSize is the longest narinfo that is read, in bytes, as nar-bridge has it.
	MaxSize = 2 << 20
	// ContentType is the MIME type of a narinfo.
	ContentType = "text/x-nix-narinfo"
)

// NarInfo is what a binary cache says of one store path.
type NarInfo struct {
	StorePath storepath.StorePath
	// URL of the file that holds the NAR, relative to that of the cache.
	URL string
	// Compression of that file: none, xz, zstd, bzip2, gzip, br, lz4, ...
	Compression string
	// FileHash is the SHA-256 of the file; nil if not known.
	FileHash *[sha256.Size]byte
	// FileSize is the length of the file in bytes; 0 if not known.
	FileSize uint64
	// NarHash is the SHA-256 of the NAR.
	NarHash [sha256.Size]byte
	// NarSize is the length of the NAR in bytes; 0 if not known, which old caches
	// write.
	NarSize    uint64
	References []storepath.StorePath
	// Deriver is without ".drv" at the end of its name; nil if not known.
	Deriver    *storepath.StorePath
	Signatures []pathinfo.Signature
	CA         *pathinfo.CA
}

// FromPathInfo is the narinfo of p, for an uncompressed NAR at url.
func FromPathInfo(p *pathinfo.PathInfo, url string) *NarInfo {
	hash := p.NarSHA256
	return &NarInfo{
		StorePath: p.StorePath, URL: url, Compression: "none",
		FileHash: &hash, FileSize: p.NarSize, NarHash: p.NarSHA256, NarSize: p.NarSize,
		References: p.References, Deriver: p.Deriver, Signatures: p.Signatures, CA: p.CA,
	}
}

// PathInfo is what n says of its store path, which holds node.
func (n *NarInfo) PathInfo(node castore.Node) *pathinfo.PathInfo {
	return &pathinfo.PathInfo{
		StorePath: n.StorePath, Node: node, References: n.References,
		NarSize: n.NarSize, NarSHA256: n.NarHash, Signatures: n.Signatures,
		Deriver: n.Deriver, CA: n.CA,
	}
}

// Marshal is the text of n, in the order in which Nix writes it.
func (n *NarInfo) Marshal() []byte {
	var b strings.Builder
	line := func(key, value string) { b.WriteString(key + ": " + value + "\n") }
	line("StorePath", n.StorePath.Absolute())
	line("URL", n.URL)
	line("Compression", n.Compression)
	if n.FileHash != nil {
		line("FileHash", formatHash(*n.FileHash))
	}
	if n.FileSize != 0 {
		line("FileSize", strconv.FormatUint(n.FileSize, 10))
	}
	line("NarHash", formatHash(n.NarHash))
	line("NarSize", strconv.FormatUint(n.NarSize, 10))
	refs := make([]string, len(n.References))
	for i, r := range n.References {
		refs[i] = r.String()
	}
	line("References", strings.Join(refs, " "))
	if n.Deriver != nil {
		line("Deriver", n.Deriver.String()+".drv")
	}
	for _, s := range n.Signatures {
		line("Sig", s.String())
	}
	if n.CA != nil {
		line("CA", n.CA.String())
	}
	return []byte(b.String())
}

func formatHash(h [sha256.Size]byte) string { return "sha256:" + nixbase32.EncodeToString(h[:]) }

// Parse parses and checks a narinfo.
func Parse(text []byte) (*NarInfo, error) {
	n, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse narinfo: %w", err)
	}
	return n, nil
}

// parse does the work of [Parse].
func parse(text []byte) (*NarInfo, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("longer than %d bytes", MaxSize)
	}
	n := &NarInfo{}
	seen := map[string]bool{}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok || strings.ContainsAny(key, " \t") {
			return nil, fmt.Errorf("line %d is not of the form KEY: VALUE", number)
		}
		if seen[key] && key != "Sig" {
			return nil, fmt.Errorf("line %d: a second %s", number, key)
		}
		seen[key] = true
		if err := n.set(key, strings.TrimSpace(value)); err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", number, key, err)
		}
	}
	for _, key := range []string{"StorePath", "URL", "NarHash", "NarSize"} {
		if !seen[key] {
			return nil, fmt.Errorf("no %s in it", key)
		}
	}
	if n.Compression == "" {
		n.Compression = "bzip2"
	}
	return n, nil
}

// set takes one line; keys that are not known are left out.
func (n *NarInfo) set(key, value string) (err error) {
	switch key {
	case "StorePath":
		var below string
		if n.StorePath, below, err = storepath.ParseAbsolute(value); err == nil && (below != "" || n.StorePath.Absolute() != value) {
			err = fmt.Errorf("%q is not a store path, but one below it", value)
		}
	case "URL":
		if n.URL = value; value == "" {
			err = errors.New("it is empty")
		}
	case "Compression":
		n.Compression = value
	case "FileHash":
		var h [sha256.Size]byte
		h, err = ParseHash(value)
		n.FileHash = &h
	case "FileSize":
		n.FileSize, err = strconv.ParseUint(value, 10, 63)
	case "NarHash":
		n.NarHash, err = ParseHash(value)
	case "NarSize":
		n.NarSize, err = strconv.ParseUint(value, 10, 63)
	case "References":
		for _, base := range strings.Fields(value) {
			p, err := storepath.Parse(base)
			if err != nil {
				return err
			}
			n.References = append(n.References, p)
		}
		sorted := func(a, b storepath.StorePath) int { return strings.Compare(a.String(), b.String()) }
		slices.SortFunc(n.References, sorted) // as Nix, which holds a set
		n.References = slices.Compact(n.References)
	case "Deriver":
		if value == "" || value == "unknown-deriver" {
			return nil
		}
		base, ok := strings.CutSuffix(value, ".drv")
		if !ok {
			return fmt.Errorf("%q does not end in .drv", value)
		}
		p, err := storepath.Parse(base)
		if err != nil {
			return err
		}
		n.Deriver = &p
	case "Sig":
		sig, err := pathinfo.ParseSignature(value)
		if err != nil {
			return err
		}
		n.Signatures = append(n.Signatures, sig)
	case "CA":
		if value != "" {
			n.CA, err = pathinfo.ParseCA(value)
		}
	}
	return err
}
