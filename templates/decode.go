package templates

import (
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// template decodes all keys; those of lists are in the files items.go and
// programs.go.
func (d *decoder) template(root ast.Node, t *Template) error {
	return d.mapping(root, "template", fields{
		"description": d.into(&t.Description, "description"),
		"extends":     d.into(&t.Extends, "extends"),
		"include": func(n ast.Node) error {
			return d.list(n, "include", d.appendText(&t.Include, "include"))
		},
		"parameters": func(ast.Node) error { return nil }, // decoded before all else
		"mode": func(n ast.Node) (err error) {
			t.Mode, err = d.choice(n, "mode", "find", "shell", "run")
			return err
		},
		"max_size": func(n ast.Node) (err error) {
			t.MaxSizeAt = d.at(n)
			t.MaxSize, err = d.size(n, "max_size")
			return err
		},
		"shell": func(n ast.Node) error {
			if err := d.list(n, "shell", d.appendText(&t.Shell, "shell")); err != nil {
				return err
			}
			if len(t.Shell) == 0 || !cleanAbs(t.Shell[0]) {
				return d.errorAt(n, "shell: want a list that begins with the absolute path of a program in the image")
			}
			return nil
		},
		"run":         func(n ast.Node) error { return d.run(n, t) },
		"hooks":       func(n ast.Node) error { return d.hooks(n, &t.Hooks) },
		"modules":     items(d, &t.Modules, "modules", d.module),
		"firmware":    items(d, &t.Firmware, "firmware", d.firmware),
		"microcode":   items(d, &t.Microcode, "microcode", d.microcode),
		"commands":    items(d, &t.Commands, "commands", d.command),
		"programs":    items(d, &t.Programs, "programs", d.program),
		"binaries":    items(d, &t.Binaries, "binaries", d.binary),
		"nss":         items(d, &t.NSS, "nss", d.service),
		"directories": items(d, &t.Directories, "directories", d.directory),
		"files":       items(d, &t.Files, "files", d.file),
		"trees":       items(d, &t.Trees, "trees", d.tree),
		"symlinks":    items(d, &t.Symlinks, "symlinks", d.symlink),
		"devices":     items(d, &t.Devices, "devices", d.device),
		"archives":    items(d, &t.Archives, "archives", d.archive),
		"mounts":      items(d, &t.Mounts, "mounts", d.mount),
	})
}

// items decodes a list of like items.
func items[T any](d *decoder, to *[]T, what string, item func(ast.Node) (T, error)) func(ast.Node) error {
	return func(n ast.Node) error {
		return d.list(n, what, func(n ast.Node) error {
			x, err := item(n)
			*to = append(*to, x)
			return err
		})
	}
}

// run decodes the program of mode run.
func (d *decoder) run(n ast.Node, t *Template) error {
	r := &Run{At: d.at(n)}
	err := d.mapping(n, "run", fields{
		"argv": func(n ast.Node) error { return d.list(n, "argv", d.appendText(&r.Argv, "argv")) },
		"env":  func(n ast.Node) error { return d.list(n, "env", d.appendText(&r.Env, "env")) },
		"dir":  d.path(&r.Dir, "dir"),
	}, "argv")
	if err != nil {
		return err
	}
	if len(r.Argv) == 0 || !cleanAbs(r.Argv[0]) {
		return d.errorAt(n, "run: argv: want a list that begins with the absolute path of a program in the guest")
	}
	for _, e := range r.Env {
		if k, _, ok := strings.Cut(e, "="); !ok || k == "" {
			return d.errorAt(n, "run: env: %q is not KEY=VALUE", e)
		}
	}
	t.Run = r
	return nil
}

// hooks decodes the lists of commands that init runs.
func (d *decoder) hooks(n ast.Node, h *Hooks) error {
	return d.mapping(n, "hooks", fields{
		"before_store": items(d, &h.BeforeStore, "before_store", d.hook),
		"after_store":  items(d, &h.AfterStore, "after_store", d.hook),
	})
}

// hook is a list of words, or a mapping with one.
func (d *decoder) hook(n ast.Node) (Hook, error) {
	h := Hook{At: d.at(n)}
	argv := func(n ast.Node) error { return d.list(n, "hook", d.appendText(&h.Argv, "hook")) }
	var err error
	if _, ok := n.(*ast.SequenceNode); ok {
		err = argv(n)
	} else {
		err = d.mapping(n, "hook", fields{"argv": argv, "optional": d.truth(&h.Optional, "optional")}, "argv")
	}
	if err == nil && (len(h.Argv) == 0 || !cleanAbs(h.Argv[0])) {
		err = d.errorAt(n, "hook: want a list that begins with the absolute path of a program in the image")
	}
	return h, err
}

func (d *decoder) choice(n ast.Node, what string, choices ...string) (string, error) {
	s, err := d.text(n, what)
	if err == nil && !slices.Contains(choices, s) {
		err = d.errorAt(n, "%s %q: want %s", what, s, strings.Join(choices, ", "))
	}
	return s, err
}

// isWord holds for names of commands and modules, and for aliases of modules.
func isWord(s string) bool {
	return s != "" && s[0] != '-' && s[0] != '.' && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`/\"'?*[]{}`, c)
	})
}

// isRelative holds for paths of words: import paths, directories of modules.
func isRelative(s string) bool {
	for w := range strings.SplitSeq(s, "/") {
		if !isWord(w) {
			return false
		}
	}
	return true
}

func cleanAbs(p string) bool { return path.IsAbs(p) && path.Clean(p) == p }
