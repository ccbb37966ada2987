package main

import (
	"path"
	"strings"

	"storeboot/internal/cli"
)

// patterns select files of an image: one that a pattern matches, as a shell
// would, and all below it. None at all select everything. A leading slash means
// nothing; a pattern without any slash also matches the last part of a path.
type patterns []string

func newPatterns(list []string) (patterns, error) {
	var p patterns
	for _, s := range list {
		if _, err := path.Match(s, ""); err != nil {
			return nil, cli.Usagef("pattern %q: %w", s, err)
		}
		p = append(p, cleanName(s))
	}
	return p, nil
}

func (p patterns) match(name string) bool {
	if len(p) == 0 {
		return true
	}
	for name = cleanName(name); name != "." && name != ""; name = path.Dir(name) {
		for _, s := range p {
			if ok, _ := path.Match(s, name); ok {
				return true
			}
			if ok, _ := path.Match(s, path.Base(name)); ok && !strings.Contains(s, "/") {
				return true
			}
		}
	}
	return false
}

// cleanName is a name of an archive as a path below the root, which ".." does
// not leave: "etc/fstab".
func cleanName(s string) string { return strings.TrimPrefix(path.Clean("/"+s), "/") }
