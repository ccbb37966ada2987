package templates

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

const (
	// maxSize is the size of the largest template.
	maxSize = 64 << 10
	// maxIncludes is how many templates one may be made of, and so bounds the
	// work of those that include each other many times.
	maxIncludes = 64
)

// Load returns the template that ref names: a file, if ref has a slash or ends
// in .yaml or .yml, or else a built-in one. Sources of a template in a file are
// made relative to the working directory. The map has the values of
// parameters; one that neither the template nor what it includes has is an
// error, and so is a parameter without default that is not in the map.
func Load(ref string, set map[string]string) (*Template, error) {
	l := &loader{set: set, files: true}
	t, err := l.load(ref)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		var names []string
		for _, p := range t.Parameters {
			names = append(names, p.Name)
		}
		if slices.Contains(names, name) {
			continue
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("template %s: unknown parameter %q: the template has none", ref, name)
		}
		return nil, fmt.Errorf("template %s: unknown parameter %q: it has %s", ref, name, strings.Join(names, ", "))
	}
	return t, nil
}

// isFile says whether ref names a file.
func isFile(ref string) bool {
	return strings.ContainsRune(ref, '/') || strings.HasSuffix(ref, ".yaml") || strings.HasSuffix(ref, ".yml")
}

// loader loads a template with all that it is made of.
type loader struct {
	set      map[string]string
	files    bool // may include files
	describe bool
	open     []string // the templates that are being loaded, each in the one before
	loaded   int
}

func (l *loader) load(ref string) (*Template, error) {
	if slices.Contains(l.open, ref) {
		return nil, fmt.Errorf("template %s includes itself", ref)
	}
	if l.loaded++; l.loaded > maxIncludes {
		return nil, fmt.Errorf("more than %d templates are included", maxIncludes)
	}
	l.open = append(l.open, ref)
	defer func() { l.open = l.open[:len(l.open)-1] }()
	if !isFile(ref) {
		data, err := BuiltinSource(ref)
		if err != nil {
			return nil, err
		}
		return l.parse(ref, "", data)
	}
	data, err := readTemplate(ref)
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	return l.parse(ref, filepath.Dir(ref), data)
}

func readTemplate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSize+1))
}

// parse parses the template and puts it on top of what it extends and includes.
func (l *loader) parse(name, dir string, data []byte) (*Template, error) {
	if len(data) > maxSize {
		return nil, fmt.Errorf("%s: template is larger than %d KiB", name, maxSize>>10)
	}
	d := decoder{name: name, dir: dir, set: l.set, describe: l.describe}
	root, err := d.root(data)
	if err != nil {
		return nil, err
	}
	t := &Template{Name: name}
	if n := value(root, "parameters"); n != nil {
		if err := d.parameters(n, t); err != nil {
			return nil, err
		}
	}
	if err := d.template(root, t); err != nil {
		return nil, err
	}
	base := &Template{}
	if t.Extends != "" {
		if isFile(t.Extends) {
			return nil, d.errorf(value(root, "extends").GetToken(), "extends: want a built-in template: a file is included (include: [%s])", t.Extends)
		}
		if base, err = l.under(&d, value(root, "extends"), t.Extends, base); err != nil {
			return nil, err
		}
	}
	for i, ref := range t.Include {
		if isFile(ref) && dir != "" && !filepath.IsAbs(ref) {
			ref = filepath.Join(dir, ref)
		}
		var n ast.Node
		if seq, ok := value(root, "include").(*ast.SequenceNode); ok {
			n = seq.Values[i]
		}
		if base, err = l.under(&d, n, ref, base); err != nil {
			return nil, err
		}
	}
	return t.over(base), nil
}

// errNoFiles is the error of a template that was given as text alone.
var errNoFiles = errors.New("a file is included in a template that is none")

// under loads what is included at n, and puts it on top of base.
func (l *loader) under(d *decoder, n ast.Node, ref string, base *Template) (*Template, error) {
	t, err := (*Template)(nil), errNoFiles
	if l.files || !isFile(ref) {
		t, err = l.load(ref)
	}
	if err != nil {
		return nil, d.at(n).Wrap(err)
	}
	return t.over(base), nil
}

// value is the value of a key of the root.
func value(root ast.Node, key string) ast.Node {
	var values []*ast.MappingValueNode
	switch n := root.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	}
	for _, v := range values {
		if k, ok := v.Key.(*ast.StringNode); ok && k.Value == key && v.Value != nil && v.Value.Type() != ast.NullType {
			return v.Value
		}
	}
	return nil
}
