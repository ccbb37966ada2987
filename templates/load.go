package templates

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxSize is the size of the largest template.
const maxSize = 64 << 10

// Load returns the template that ref names: a file, if ref has a slash or ends
// in .yaml or .yml, or else a built-in one. Sources of a template in a file are
// made relative to the working directory.
func Load(ref string) (*Template, error) {
	if !strings.ContainsRune(ref, '/') && !strings.HasSuffix(ref, ".yaml") && !strings.HasSuffix(ref, ".yml") {
		return Builtin(ref)
	}
	f, err := os.Open(ref)
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	t, err := Parse(ref, data)
	if err != nil {
		return nil, err
	}
	for i, file := range t.Files {
		if !filepath.IsAbs(file.Source) {
			t.Files[i].Source = filepath.Join(filepath.Dir(ref), file.Source)
		}
	}
	return t, nil
}
