package templates

import (
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

func (d *decoder) directory(n ast.Node) (Directory, error) {
	x := Directory{Mode: 0o755, At: d.at(n)}
	err := d.mapping(n, "directory", fields{
		"path": d.path(&x.Path, "path"), "mode": d.mode(&x.Mode), "owner": d.owner(&x.Owner),
	}, "path")
	return x, err
}

func (d *decoder) file(n ast.Node) (File, error) {
	x := File{At: d.at(n)}
	err := d.mapping(n, "file", fields{
		"source": d.source(&x.Source, "source"),
		"text": func(n ast.Node) error {
			x.Text = new(string)
			return d.anyText(x.Text, "text")(n)
		},
		"path": d.path(&x.Path, "path"),
		"mode": func(n ast.Node) error {
			x.Mode = new(uint32)
			return d.mode(x.Mode)(n)
		},
		"owner": d.owner(&x.Owner),
	}, "path")
	switch {
	case err != nil:
	case x.Source == "" && x.Text == nil:
		err = d.errorAt(n, `file lacks the key "source" (or "text")`)
	case x.Source != "" && x.Text != nil:
		err = d.errorAt(n, `file has both "source" and "text"`)
	}
	return x, err
}

func (d *decoder) tree(n ast.Node) (Tree, error) {
	x := Tree{At: d.at(n)}
	err := d.mapping(n, "tree", fields{
		"source": d.source(&x.Source, "source"),
		"path": func(n ast.Node) (err error) {
			if x.Path, err = d.text(n, "path"); err == nil && x.Path != "/" {
				err = d.path(&x.Path, "path")(n)
			}
			return err
		},
		"owner": d.owner(&x.Owner),
		"modes": func(n ast.Node) error {
			s, err := d.choice(n, "modes", "usual", "keep")
			x.KeepModes = s == "keep"
			return err
		},
	}, "source", "path")
	return x, err
}

func (d *decoder) symlink(n ast.Node) (Symlink, error) {
	x := Symlink{At: d.at(n)}
	err := d.mapping(n, "symlink", fields{
		"path": d.path(&x.Path, "path"), "target": d.into(&x.Target, "target"), "owner": d.owner(&x.Owner),
	}, "path", "target")
	return x, err
}

func (d *decoder) device(n ast.Node) (Device, error) {
	x := Device{Mode: 0o600, At: d.at(n)}
	const most = 1<<20 - 1 // MINORMASK, and more than any major number
	numbers := 0
	number := func(to *uint32, what string) func(ast.Node) error {
		return func(n ast.Node) error {
			numbers++
			return d.number(to, what, most)(n)
		}
	}
	err := d.mapping(n, "device", fields{
		"path": d.path(&x.Path, "path"),
		"type": func(n ast.Node) (err error) {
			x.Type, err = d.choice(n, "type", "char", "block", "fifo")
			return err
		},
		"major": number(&x.Major, "major"), "minor": number(&x.Minor, "minor"),
		"mode": d.mode(&x.Mode), "owner": d.owner(&x.Owner),
	}, "path", "type")
	switch {
	case err != nil:
	case x.Type == "fifo" && numbers > 0:
		err = d.errorAt(n, "device: a fifo has no numbers")
	case x.Type != "fifo" && numbers < 2:
		err = d.errorAt(n, `device lacks the keys "major" and "minor"`)
	}
	return x, err
}

func (d *decoder) archive(n ast.Node) (Archive, error) {
	x := Archive{At: d.at(n)}
	if _, ok := n.(*ast.StringNode); ok {
		err := d.source(&x.Source, "archive")(n)
		return x, err
	}
	err := d.mapping(n, "archive", fields{
		"source": d.source(&x.Source, "source"), "early": d.truth(&x.Early, "early"),
	}, "source")
	return x, err
}

func (d *decoder) mount(n ast.Node) (Mount, error) {
	x := Mount{At: d.at(n)}
	err := d.mapping(n, "mount", fields{
		"source":  d.into(&x.Source, "source"),
		"target":  d.path(&x.Target, "target"),
		"type":    d.into(&x.Type, "type"),
		"options": d.into(&x.Options, "options"),
	}, "source", "target", "type")
	return x, err
}

func (d *decoder) firmware(n ast.Node) (Firmware, error) {
	x := Firmware{At: d.at(n)}
	var err error
	if x.Name, err = d.text(n, "firmware"); err == nil && (!filepath.IsLocal(x.Name) || filepath.Clean(x.Name) != x.Name) {
		err = d.errorAt(n, `firmware %q: want a path below the firmware directory`, x.Name)
	}
	return x, err
}

func (d *decoder) microcode(n ast.Node) (Microcode, error) {
	x := Microcode{At: d.at(n)}
	s, err := d.choice(n, "microcode", "intel", "amd", "intel?", "amd?")
	x.Vendor, x.Optional = strings.CutSuffix(s, "?")
	return x, err
}
