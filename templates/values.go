package templates

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// at is the position of a node.
func (d *decoder) at(n ast.Node) Position {
	p := Position{File: d.name}
	if t := n.GetToken(); t != nil && t.Position != nil {
		p.Line, p.Column = t.Position.Line, t.Position.Column
	}
	// The token of a mapping is that of its first colon.
	if m, ok := n.(*ast.MappingValueNode); ok {
		return d.at(m.Key)
	}
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		return d.at(m.Values[0].Key)
	}
	return p
}

// into decodes text.
func (d *decoder) into(to *string, what string) func(ast.Node) error {
	return func(n ast.Node) (err error) {
		*to, err = d.text(n, what)
		return err
	}
}

// anyText decodes text that may be empty, and keeps the end of its last line.
func (d *decoder) anyText(to *string, what string) func(ast.Node) error {
	return func(n ast.Node) (err error) {
		switch n := n.(type) {
		case *ast.StringNode:
			if n.Value == "" {
				*to = ""
				return nil
			}
		case *ast.LiteralNode:
			*to, err = d.expand(n, n.Value.Value)
			if err == nil && strings.ContainsRune(*to, 0) {
				err = d.errorAt(n, "%s contains a NUL byte", what)
			}
			return err
		}
		*to, err = d.text(n, what)
		return err
	}
}

func (d *decoder) appendText(to *[]string, what string) func(ast.Node) error {
	return func(n ast.Node) error {
		s, err := d.text(n, what)
		*to = append(*to, s)
		return err
	}
}

// path decodes a place in the image.
func (d *decoder) path(to *string, what string) func(ast.Node) error {
	return func(n ast.Node) (err error) {
		if *to, err = d.text(n, what); err != nil {
			return err
		}
		if !cleanAbs(*to) || *to == "/" {
			return d.errorAt(n, `%s %q: want an absolute path in the image, without ".." and needless slashes`, what, *to)
		}
		return nil
	}
}

// source decodes a path on this machine: relative to the template, but to the
// working directory if it begins with a parameter, whose value came from there.
func (d *decoder) source(to *string, what string) func(ast.Node) error {
	return func(n ast.Node) (err error) {
		if *to, err = d.text(n, what); err != nil {
			return err
		}
		given := false
		if s, ok := n.(*ast.StringNode); ok {
			given = strings.HasPrefix(s.Value, "${")
		}
		if d.dir != "" && !filepath.IsAbs(*to) && !given {
			*to = filepath.Join(d.dir, *to)
		}
		return nil
	}
}

// written is a scalar's text as it stands: to YAML, 0755 and 755 are two
// numbers.
func written(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.IntegerNode:
		return n.Token.Value, true
	case *ast.StringNode:
		return n.Value, true
	}
	return "", false
}

// mode decodes permissions: octal, with or without a leading 0 or 0o.
func (d *decoder) mode(to *uint32) func(ast.Node) error {
	return func(n ast.Node) error {
		s, ok := written(n)
		if !ok {
			return d.wrongKind(n, "mode", "octal permissions, 0 to 7777")
		}
		v, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 32)
		if err != nil || v > 0o7777 {
			return d.errorAt(n, "mode %q: want octal permissions, 0 to 7777", s)
		}
		*to = uint32(v)
		return nil
	}
}

// number decodes a decimal number up to most.
func (d *decoder) number(to *uint32, what string, most uint32) func(ast.Node) error {
	return func(n ast.Node) error {
		s, _ := written(n)
		v, err := strconv.ParseUint(s, 10, 32)
		if err != nil || v > uint64(most) {
			return d.errorAt(n, "%s %q: want a number, 0 to %d", what, s, most)
		}
		*to = uint32(v)
		return nil
	}
}

// owner decodes "UID:GID".
func (d *decoder) owner(to *Owner) func(ast.Node) error {
	return func(n ast.Node) error {
		// YAML takes 1000:100 for a number to the base 60, or for text.
		s, err := d.text(n, "owner")
		if err != nil {
			return err
		}
		user, group, ok := strings.Cut(s, ":")
		uid, errU := strconv.ParseUint(user, 10, 32)
		gid, errG := strconv.ParseUint(group, 10, 32)
		if !ok || errU != nil || errG != nil {
			return d.errorAt(n, "owner %q: want UID:GID in numbers, as in 0:5", s)
		}
		*to = Owner{UID: uint32(uid), GID: uint32(gid)}
		return nil
	}
}

func (d *decoder) truth(to *bool, what string) func(ast.Node) error {
	return func(n ast.Node) error {
		b, ok := n.(*ast.BoolNode)
		if !ok {
			return d.wrongKind(n, what, "true or false")
		}
		*to = b.Value
		return nil
	}
}

// size decodes a number of bytes, with K, M or G for powers of 1024.
func (d *decoder) size(n ast.Node, what string) (int64, error) {
	s, err := d.text(n, what)
	if err != nil {
		return 0, err
	}
	digits, shift := s, 0
	for i, unit := range []string{"K", "M", "G"} {
		if rest, ok := strings.CutSuffix(s, unit); ok {
			digits, shift = rest, 10*(i+1)
		}
	}
	v, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || v == 0 {
		return 0, d.errorAt(n, "%s %q: want a number of bytes, or one with K, M or G behind it", what, s)
	}
	return int64(v) << shift, nil
}

// expand puts in the values of parameters: ${NAME}; $${ stands for ${.
func (d *decoder) expand(n ast.Node, s string) (string, error) {
	if !strings.Contains(s, "${") {
		return s, nil
	}
	var out strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			out.WriteString(s)
			return out.String(), nil
		}
		if i > 0 && s[i-1] == '$' {
			out.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		name, rest, ok := strings.Cut(s[i+2:], "}")
		if !ok {
			return "", d.errorAt(n, `"${" without "}": $${ stands for itself`)
		}
		value, known := d.values[name]
		if !known {
			var names []string
			for k := range d.values {
				names = append(names, k)
			}
			hint := ""
			if c := closest(name, names); c != "" {
				hint = "; did you mean ${" + c + "}?"
			}
			return "", d.errorAt(n, "unknown parameter ${%s}: list it under parameters; $${ stands for itself%s", name, hint)
		}
		out.WriteString(s[:i] + value)
		s = rest
		if out.Len() > maxSize {
			return "", d.errorAt(n, "text of more than %d KiB", maxSize>>10)
		}
	}
}
