package templates

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// module decodes "NAME", "NAME?" and "NAME OPTION=VALUE...", or a mapping.
func (d *decoder) module(n ast.Node) (Module, error) {
	x := Module{At: d.at(n)}
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		err := d.mapping(n, "module", fields{
			"name":      d.into(&x.Name, "name"),
			"optional":  d.truth(&x.Optional, "optional"),
			"available": d.truth(&x.Available, "available"),
			"options":   d.into(&x.Options, "options"),
		}, "name")
		if err != nil {
			return x, err
		}
	default:
		s, err := d.text(n, "module")
		if err != nil {
			return x, err
		}
		x.Name, x.Options, _ = strings.Cut(s, " ")
		x.Name, x.Optional = strings.CutSuffix(x.Name, "?")
	}
	x.Options = strings.Join(strings.Fields(x.Options), " ")
	if dir, ok := strings.CutSuffix(x.Name, "/"); ok {
		x.Available = true
		switch {
		case !isRelative(dir):
			return x, d.errorAt(n, "module %q: want a directory below kernel/, as in drivers/net/", x.Name)
		case x.Options != "":
			return x, d.errorAt(n, "module %q: a directory has no parameters", x.Name)
		}
	} else if !isWord(x.Name) {
		return x, d.errorAt(n, "module %q: want NAME, NAME? or NAME PARAMETER=VALUE", x.Name)
	}
	return x, nil
}

// command decodes a name, or the import path of a Go command.
func (d *decoder) command(n ast.Node) (Command, error) {
	x := Command{At: d.at(n)}
	s, err := d.text(n, "command")
	if err != nil {
		return x, err
	}
	x.Name = s
	if strings.Contains(s, "/") {
		if !isImport(s) {
			return x, d.errorAt(n, "command %q: want a name, or the import path of a Go command", s)
		}
		x.Name, x.Import = path.Base(s), s
	} else if !isWord(s) {
		return x, d.errorAt(n, "command %q: want a name", s)
	}
	return x, nil
}

// program decodes an import path, or a mapping with one.
func (d *decoder) program(n ast.Node) (Program, error) {
	x := Program{At: d.at(n)}
	var err error
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		err = d.mapping(n, "program", fields{"import": d.into(&x.Import, "import"), "path": d.path(&x.Path, "path")}, "import")
	default:
		x.Import, err = d.text(n, "program")
	}
	if err == nil && !isImport(x.Import) {
		err = d.errorAt(n, "program %q: want the import path of a Go command", x.Import)
	}
	if x.Path == "" {
		x.Path = "/bin/" + path.Base(x.Import)
	}
	return x, err
}

// isImport holds for import paths: their first word has a dot, or they are of
// this module.
func isImport(s string) bool {
	first, _, ok := strings.Cut(s, "/")
	return ok && isRelative(s) && (strings.Contains(first, ".") || first == "storeboot") && !strings.Contains(s, "@")
}

// binary decodes a name or path, "?" behind it if it may be missing, or a
// mapping.
func (d *decoder) binary(n ast.Node) (Binary, error) {
	x := Binary{At: d.at(n)}
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		err := d.mapping(n, "binary", fields{
			"source":   d.sourceOrName(&x.Source),
			"path":     d.path(&x.Path, "path"),
			"optional": d.truth(&x.Optional, "optional"),
			"dlopen": func(n ast.Node) (err error) {
				x.Dlopen, err = d.choice(n, "dlopen", "required", "recommended", "suggested", "none")
				return err
			},
		}, "source")
		if err != nil {
			return x, err
		}
	default:
		if err := d.sourceOrName(&x.Source)(n); err != nil {
			return x, err
		}
		x.Source, x.Optional = strings.CutSuffix(x.Source, "?")
	}
	if x.Source == "" || strings.HasSuffix(x.Source, "/") {
		return x, d.errorAt(n, "binary %q: want a name or a path", x.Source)
	}
	if x.Path == "" {
		x.Path = "/bin/" + filepath.Base(x.Source)
		if filepath.IsAbs(x.Source) && cleanAbs(x.Source) {
			x.Path = x.Source // where it is on this machine
		}
	}
	return x, nil
}

// sourceOrName decodes a name, which stays as it is, or a path.
func (d *decoder) sourceOrName(to *string) func(ast.Node) error {
	return func(n ast.Node) error {
		s, err := d.text(n, "binary")
		if err == nil && strings.Contains(s, "/") {
			return d.source(to, "binary")(n)
		}
		*to = s
		return err
	}
}

// service decodes the name of an NSS service.
func (d *decoder) service(n ast.Node) (Service, error) {
	x := Service{At: d.at(n)}
	var err error
	if x.Name, err = d.text(n, "nss"); err == nil && !isWord(x.Name) {
		err = d.errorAt(n, "nss %q: want the name of a service, as in nsswitch.conf", x.Name)
	}
	return x, err
}

// parameters decodes the list of parameters, and settles their values.
func (d *decoder) parameters(n ast.Node, t *Template) error {
	d.values = map[string]string{}
	return d.list(n, "parameters", func(n ast.Node) error {
		x := Parameter{At: d.at(n)}
		err := d.mapping(n, "parameter", fields{
			"name": d.into(&x.Name, "name"), "description": d.into(&x.Description, "description"),
			"default": func(n ast.Node) error {
				x.Default = new(string)
				return d.anyText(x.Default, "default")(n)
			},
		}, "name")
		switch {
		case err != nil:
			return err
		case !isWord(x.Name) || strings.ContainsAny(x.Name, "$=}"):
			return d.errorAt(n, "parameter %q: want a name", x.Name)
		case slices.ContainsFunc(t.Parameters, func(p Parameter) bool { return p.Name == x.Name }):
			return d.errorAt(n, "parameter %q for the second time", x.Name)
		}
		t.Parameters = append(t.Parameters, x)
		value, given := d.set[x.Name]
		switch {
		case given:
			d.values[x.Name] = value
		case x.Default != nil:
			d.values[x.Name] = *x.Default
		case d.describe:
			d.values[x.Name] = "${" + x.Name + "}"
		default:
			about := ""
			if x.Description != "" {
				about = " (" + x.Description + ")"
			}
			return d.errorAt(n, "parameter %q%s has no value: give --set %s=VALUE", x.Name, about, x.Name)
		}
		return nil
	})
}
