package templates

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed *.yaml
var builtins embed.FS

// Builtins returns the names of the built-in templates, sorted.
func Builtins() []string {
	var names []string
	entries, _ := fs.ReadDir(builtins, ".")
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// BuiltinSource returns the text of a built-in template. The error names those
// that there are.
func BuiltinSource(name string) ([]byte, error) {
	data, err := builtins.ReadFile(name + ".yaml")
	if err != nil {
		hint := ""
		if s := closest(name, Builtins()); s != "" {
			hint = fmt.Sprintf("; did you mean %q?", s)
		}
		return nil, fmt.Errorf("unknown template %q: the built-in ones are %s; a file is given as PATH/TO/FILE.yaml%s", name, strings.Join(Builtins(), ", "), hint)
	}
	return data, nil
}

// Builtin returns a built-in template with all that it extends. Parameters
// without a default stand for themselves: ${NAME}.
func Builtin(name string) (*Template, error) {
	if isFile(name) {
		_, err := BuiltinSource(name)
		return nil, err
	}
	l := &loader{describe: true}
	return l.load(name)
}
