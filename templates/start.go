package templates

import (
	_ "embed"
	"strings"
)

//go:embed start.txt
var start string

// Start returns a commented template that adds to the built-in one of that name.
func Start(extends string) ([]byte, error) {
	if _, err := BuiltinSource(extends); err != nil {
		return nil, err
	}
	return []byte(strings.ReplaceAll(start, "@EXTENDS@", extends)), nil
}
