package pathinfo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nix-community/go-nix/pkg/nixbase32"
)

// Fingerprint is what the signatures of p sign (Nix, ValidPathInfo::fingerprint;
// spec/store.md 2.5):
//
//	1;STOREPATH;sha256:NARHASH;NARSIZE;REFERENCES
//
// with absolute paths, the hash in nixbase32, and the references by name, each
// once, with commas between: Nix holds them as an ordered set.
func (p *PathInfo) Fingerprint() string {
	refs := make([]string, len(p.References))
	for i, r := range p.References {
		refs[i] = r.Absolute()
	}
	slices.Sort(refs)
	refs = slices.Compact(refs)
	return fmt.Sprintf("1;%s;sha256:%s;%d;%s", p.StorePath.Absolute(), nixbase32.EncodeToString(p.NarSHA256[:]), p.NarSize, strings.Join(refs, ","))
}
