package kmod

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"path"
	"strings"
)

// maxLine is the longest line that is read: a module with a thousand
// dependencies of 1000 bytes each.
const maxLine = 1 << 20

// dependencies is one line of modules.dep.
type dependencies struct {
	path string
	// needs are paths in the reverse of the order to load them in, complete
	// with their own needs.
	needs []string
}

// softDependencies is what modules.softdep says of one module.
type softDependencies struct{ pre, post []string }

// alias is one line of modules.alias.
type alias struct{ pattern, module string }

// parseDep reads modules.dep into modules by name.
func parseDep(r io.Reader) (map[string]dependencies, error) {
	out := map[string]dependencies{}
	err := eachLine(r, func(line string) error {
		file, rest, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("no colon in %q", line)
		}
		d := dependencies{path: file, needs: strings.Fields(rest)}
		for _, p := range append([]string{file}, d.needs...) {
			if !validPath(p) {
				return fmt.Errorf("%q is not a path to a module", p)
			}
		}
		out[nameOf(file)] = d
		return nil
	})
	return out, err
}

// parseBuiltin reads modules.builtin into a set of names.
func parseBuiltin(r io.Reader) (map[string]bool, error) {
	out := map[string]bool{}
	err := eachLine(r, func(line string) error {
		if !validPath(line) {
			return fmt.Errorf("%q is not a path to a module", line)
		}
		out[nameOf(line)] = true
		return nil
	})
	return out, err
}

// parseSoftdep reads modules.softdep. Names that stand before "pre:" and
// "post:" (a form that modprobe ignores too) are left out.
func parseSoftdep(r io.Reader) (map[string]softDependencies, error) {
	out := map[string]softDependencies{}
	err := eachLine(r, func(line string) error {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "softdep" {
			return fmt.Errorf("%q is no soft dependency", line)
		}
		name := Canonical(f[1])
		d := out[name]
		var into *[]string
		for _, w := range f[2:] {
			switch {
			case w == "pre:":
				into = &d.pre
			case w == "post:":
				into = &d.post
			case into != nil:
				*into = append(*into, Canonical(w))
			}
		}
		out[name] = d
		return nil
	})
	return out, err
}

// parseAlias reads modules.alias.
func parseAlias(r io.Reader) ([]alias, error) {
	var out []alias
	err := eachLine(r, func(line string) error {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "alias" {
			return fmt.Errorf("%q is no alias", line)
		}
		out = append(out, alias{pattern: Canonical(f[1]), module: Canonical(f[2])})
		return nil
	})
	return out, err
}

// eachLine calls f with the lines that are neither empty nor comments.
func eachLine(r io.Reader, f func(string) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	for n := 1; s.Scan(); n++ {
		line := bytes.TrimSpace(s.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if err := f(string(line)); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return s.Err()
}

// extensions are those of a module's file, compressed or not.
var extensions = []string{".ko", ".ko.gz", ".ko.xz", ".ko.zst"}

// validPath holds for paths to modules that stay in their directory.
func validPath(p string) bool {
	if path.IsAbs(p) || path.Clean(p) != p || p == ".." || strings.HasPrefix(p, "../") || strings.IndexByte(p, 0) >= 0 {
		return false
	}
	base := path.Base(p)
	for _, ext := range extensions {
		if name, ok := strings.CutSuffix(base, ext); ok {
			return name != ""
		}
	}
	return false
}

// nameOf is the name of the module in the file.
func nameOf(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return Canonical(name)
}

// Canonical is the form of a module's name, or of an alias, that the kernel
// uses: "_" for "-", but in the brackets of a pattern.
func Canonical(name string) string {
	if !strings.Contains(name, "-") {
		return name
	}
	b := []byte(name)
	inside := false
	for i, c := range b {
		switch c {
		case '[':
			inside = true
		case ']':
			inside = false
		case '-':
			if !inside {
				b[i] = '_'
			}
		}
	}
	return string(b)
}
