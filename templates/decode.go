package templates

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

func (d *decoder) template(root ast.Node, t *Template) error {
	return d.mapping(root, "template", fields{
		"description": d.into(&t.Description, "description"),
		"extends":     d.into(&t.Extends, "extends"),
		"mode": func(n ast.Node) (err error) {
			t.Mode, err = d.choice(n, "mode", "find", "shell", "run")
			return err
		},
		"modules": func(n ast.Node) error {
			return d.list(n, "modules", func(n ast.Node) error {
				m, err := d.module(n)
				t.Modules = append(t.Modules, m)
				return err
			})
		},
		"commands": func(n ast.Node) error {
			return d.list(n, "commands", func(n ast.Node) error {
				s, err := d.text(n, "command")
				if err == nil && !isWord(s) {
					err = d.errorf(n.GetToken(), "command %q: want a name", s)
				}
				t.Commands = append(t.Commands, s)
				return err
			})
		},
		"shell": func(n ast.Node) error {
			err := d.list(n, "shell", func(n ast.Node) error {
				s, err := d.text(n, "shell")
				t.Shell = append(t.Shell, s)
				return err
			})
			if err != nil {
				return err
			}
			if len(t.Shell) == 0 || !cleanAbs(t.Shell[0]) {
				return d.errorf(n.GetToken(), "shell: want a list that begins with the absolute path of a program in the image")
			}
			return nil
		},
		"directories": func(n ast.Node) error {
			return d.list(n, "directories", func(n ast.Node) error {
				x := Directory{Mode: 0o755}
				err := d.mapping(n, "directory", fields{
					"path": d.path(&x.Path, "path"),
					"mode": d.mode(&x.Mode),
				}, "path")
				t.Directories = append(t.Directories, x)
				return err
			})
		},
		"files": func(n ast.Node) error {
			return d.list(n, "files", func(n ast.Node) error {
				var x File
				err := d.mapping(n, "file", fields{
					"source": d.into(&x.Source, "source"),
					"path":   d.path(&x.Path, "path"),
					"mode": func(n ast.Node) error {
						x.Mode = new(uint32)
						return d.mode(x.Mode)(n)
					},
				}, "source", "path")
				t.Files = append(t.Files, x)
				return err
			})
		},
		"symlinks": func(n ast.Node) error {
			return d.list(n, "symlinks", func(n ast.Node) error {
				var x Symlink
				err := d.mapping(n, "symlink", fields{
					"path":   d.path(&x.Path, "path"),
					"target": d.into(&x.Target, "target"),
				}, "path", "target")
				t.Symlinks = append(t.Symlinks, x)
				return err
			})
		},
		"mounts": func(n ast.Node) error {
			return d.list(n, "mounts", func(n ast.Node) error {
				var x Mount
				err := d.mapping(n, "mount", fields{
					"source":  d.into(&x.Source, "source"),
					"target":  d.path(&x.Target, "target"),
					"type":    d.into(&x.Type, "type"),
					"options": d.into(&x.Options, "options"),
				}, "source", "target", "type")
				t.Mounts = append(t.Mounts, x)
				return err
			})
		},
	})
}

// into decodes text.
func (d *decoder) into(to *string, what string) func(ast.Node) error {
	return func(n ast.Node) (err error) {
		*to, err = d.text(n, what)
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
			return d.errorf(n.GetToken(), `%s %q: want an absolute path in the image, without ".." and needless slashes`, what, *to)
		}
		return nil
	}
}

// mode decodes permissions: octal, with or without a leading 0 or 0o.
func (d *decoder) mode(to *uint32) func(ast.Node) error {
	return func(n ast.Node) error {
		// The text as it was written: to YAML, 0755 and 755 are two numbers.
		var s string
		switch n := n.(type) {
		case *ast.IntegerNode:
			s = n.Token.Value
		case *ast.StringNode:
			s = n.Value
		default:
			return d.wrongKind(n, "mode", "octal permissions, 0 to 7777")
		}
		v, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 32)
		if err != nil || v > 0o7777 {
			return d.errorf(n.GetToken(), "mode %q: want octal permissions, 0 to 7777", s)
		}
		*to = uint32(v)
		return nil
	}
}

func (d *decoder) choice(n ast.Node, what string, choices ...string) (string, error) {
	s, err := d.text(n, what)
	if err == nil && !slices.Contains(choices, s) {
		err = d.errorf(n.GetToken(), "%s %q: want %s", what, s, strings.Join(choices, ", "))
	}
	return s, err
}

// module decodes "NAME", "NAME?" and "NAME OPTION=VALUE...".
func (d *decoder) module(n ast.Node) (Module, error) {
	s, err := d.text(n, "module")
	if err != nil {
		return Module{}, err
	}
	name, options, _ := strings.Cut(s, " ")
	name, optional := strings.CutSuffix(name, "?")
	if !isWord(name) {
		return Module{}, d.errorf(n.GetToken(), "module %q: want NAME, NAME? or NAME PARAMETER=VALUE", s)
	}
	return Module{Name: name, Optional: optional, Options: strings.Join(strings.Fields(options), " ")}, nil
}

// isWord holds for names of commands and modules, and for aliases of modules.
func isWord(s string) bool {
	return s != "" && s[0] != '-' && s[0] != '.' && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`/\"'?*[]{}`, c)
	})
}

func cleanAbs(p string) bool { return path.IsAbs(p) && path.Clean(p) == p }
