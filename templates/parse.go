package templates

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxDepth limits the nesting of a template, for the sake of the library's
// parser, which recurses. The format itself needs 3.
const maxDepth = 32

// Parse parses a template and puts it on top of the built-in ones that it
// extends or includes, if any; templates in files are included by [Load] alone.
// The name is used in errors, as NAME:LINE:COLUMN. Every parameter has its
// default.
func Parse(name string, data []byte) (*Template, error) {
	l := &loader{}
	return l.parse(name, "", data)
}

// decoder turns a syntax tree into a template; its errors have positions.
type decoder struct {
	name string
	dir  string // that sources are relative to; "" is the working directory
	// set has the values of parameters that were given, values those of the
	// parameters that this template has.
	set, values map[string]string
	describe    bool // parameters without a value stand for themselves
}

// root parses the text into the one mapping that it has to be.
func (d *decoder) root(data []byte) (ast.Node, error) {
	if err := d.checkDepth(data); err != nil {
		return nil, err
	}
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		var e yaml.Error
		if errors.As(err, &e) {
			return nil, d.errorf(e.GetToken(), "%s", e.GetMessage())
		}
		return nil, fmt.Errorf("%s: %w", d.name, err)
	}
	var root ast.Node
	for _, doc := range f.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType {
			continue
		}
		if root != nil {
			return nil, d.errorf(doc.Body.GetToken(), "a second document: a template is one")
		}
		root = doc.Body
	}
	if root == nil {
		return nil, fmt.Errorf("%s: template is empty", d.name)
	}
	return root, nil
}

// checkDepth limits what nests within few bytes: brackets, and the signs of
// lists and keys at the beginning of a line.
func (d *decoder) checkDepth(data []byte) error {
	brackets, signs, begin := 0, 0, true
	line := 1
	for _, c := range data {
		switch c {
		case '\n':
			signs, begin = 0, true
			line++
		case '[', '{':
			brackets++
			begin = false
		case ']', '}':
			brackets = max(brackets-1, 0)
		case '-', '?', '&', '!':
			if begin {
				signs++
			}
		case ' ', '\t':
		default:
			begin = false
		}
		if brackets > maxDepth || signs > maxDepth {
			return fmt.Errorf("%s:%d:1: nests too deep", d.name, line)
		}
	}
	return nil
}

func (d *decoder) errorf(t *token.Token, format string, args ...any) error {
	where := d.name
	if t != nil && t.Position != nil {
		where = fmt.Sprintf("%s:%d:%d", d.name, t.Position.Line, t.Position.Column)
	}
	msg, _, _ := strings.Cut(fmt.Sprintf(format, args...), "\n")
	return fmt.Errorf("%s: %s", where, msg)
}

// errorAt is an error at the beginning of a node.
func (d *decoder) errorAt(n ast.Node, format string, args ...any) error {
	msg, _, _ := strings.Cut(fmt.Sprintf(format, args...), "\n")
	return fmt.Errorf("%s: %s", d.at(n), msg)
}

// fields is what decodes each key of a mapping.
type fields map[string]func(ast.Node) error

// mapping decodes a mapping: each key once, each known.
func (d *decoder) mapping(n ast.Node, what string, f fields, required ...string) error {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		return d.wrongKind(n, what, "a mapping (key: value)")
	}
	seen := map[string]bool{}
	for _, v := range values {
		key, ok := v.Key.(*ast.StringNode)
		if !ok {
			return d.errorf(v.Key.GetToken(), "unknown key %q%s", v.Key.String(), hint(v.Key.String(), f))
		}
		decode, ok := f[key.Value]
		if !ok {
			return d.errorf(key.GetToken(), "unknown key %q%s", key.Value, hint(key.Value, f))
		}
		if seen[key.Value] {
			return d.errorf(key.GetToken(), "key %q for the second time", key.Value)
		}
		seen[key.Value] = true
		if v.Value == nil || v.Value.Type() == ast.NullType {
			return d.errorf(key.GetToken(), "key %q has no value", key.Value)
		}
		if err := decode(v.Value); err != nil {
			return err
		}
	}
	for _, k := range required {
		if !seen[k] {
			return d.errorAt(n, "%s lacks the key %q", what, k)
		}
	}
	return nil
}

// list decodes each item of a list.
func (d *decoder) list(n ast.Node, what string, item func(ast.Node) error) error {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		return d.wrongKind(n, what, "a list")
	}
	for _, v := range seq.Values {
		if v == nil || v.Type() == ast.NullType {
			return d.errorf(seq.GetToken(), "%s: an item is empty", what)
		}
		if err := item(v); err != nil {
			return err
		}
	}
	return nil
}

// text decodes text without NUL bytes. What YAML takes for a number or a truth
// value stands as it was written: false is the name of a command.
func (d *decoder) text(n ast.Node, what string) (string, error) {
	var s string
	switch n := n.(type) {
	case *ast.StringNode:
		s = n.Value
	case *ast.LiteralNode:
		s = strings.TrimSuffix(n.Value.Value, "\n")
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode:
		s = n.GetToken().Value
	default:
		return "", d.wrongKind(n, what, "text")
	}
	s, err := d.expand(n, s)
	if err != nil {
		return "", err
	}
	switch {
	case s == "":
		return "", d.errorAt(n, "%s is empty", what)
	case strings.ContainsRune(s, 0):
		return "", d.errorAt(n, "%s contains a NUL byte", what)
	}
	return s, nil
}

func (d *decoder) wrongKind(n ast.Node, what, want string) error {
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.TagType, ast.MergeKeyType:
		return d.errorAt(n, "%s: anchors, aliases and tags are not part of the format", what)
	}
	return d.errorAt(n, "%s: want %s", what, want)
}

func hint(key string, f fields) string {
	var names []string
	for k := range f {
		names = append(names, k)
	}
	if s := closest(key, names); s != "" {
		return fmt.Sprintf("; did you mean %q?", s)
	}
	return ""
}
