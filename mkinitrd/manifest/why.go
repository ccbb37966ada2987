package manifest

import (
	"fmt"
	"path"
)

// Why returns the entry at the path and, after it, those that it is there for:
// each needs the one before. The last one is asked for by the template, or is
// in every image. Of several entries at the path, the last one counts, as for
// the kernel.
func (m *Manifest) Why(name string) ([]Entry, error) {
	at := map[string]Entry{}
	for _, e := range m.Entries {
		at[e.Path] = e
	}
	name = path.Clean("/" + name)
	e, ok := at[name]
	if !ok {
		return nil, fmt.Errorf("%s: no such entry in the manifest", name)
	}
	chain := []Entry{e}
	seen := map[string]bool{name: true}
	for e.By != "" && !seen[e.By] {
		seen[e.By] = true
		if e, ok = at[e.By]; !ok {
			break
		}
		chain = append(chain, e)
	}
	return chain, nil
}
