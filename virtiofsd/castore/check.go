package castore

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// MaxName is the longest name of an entry in bytes, as on Linux.
	MaxName = 255
	// MaxTarget is the longest target of a symlink in bytes: PATH_MAX of Linux
	// without its NUL.
	MaxTarget = 4095
)

// CheckName says whether name can name an entry of a directory: 1 to 255
// bytes, no NUL, no slash, neither "." nor "..". Any other bytes are allowed,
// invalid UTF-8 too.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("entry with an empty name")
	case len(name) > MaxName:
		return fmt.Errorf("entry name of %d bytes is longer than %d", len(name), MaxName)
	case name == "." || name == "..":
		return fmt.Errorf("entry name %q is not allowed", name)
	case strings.IndexByte(name, 0) >= 0 || strings.IndexByte(name, '/') >= 0:
		return fmt.Errorf("entry name %q has a NUL or a slash", name)
	}
	return nil
}

// Check says whether the node is well formed: a known kind, a symlink with a
// target, no field that the kind does not have.
func (n Node) Check() error {
	switch n.Kind {
	case KindDirectory, KindFile:
		if n.Target != "" || n.Executable && n.Kind == KindDirectory {
			return fmt.Errorf("a %s has fields that it cannot have", n.Kind)
		}
	case KindSymlink:
		switch {
		case n.Target == "":
			return errors.New("symlink with an empty target")
		case len(n.Target) > MaxTarget:
			return fmt.Errorf("symlink target of %d bytes is longer than %d", len(n.Target), MaxTarget)
		case strings.IndexByte(n.Target, 0) >= 0:
			return fmt.Errorf("symlink target %q has a NUL", n.Target)
		case n.Executable || n.Size != 0 || n.Digest != Digest{}:
			return errors.New("a symlink has fields that it cannot have")
		}
	default:
		return fmt.Errorf("unknown kind of node %d", n.Kind)
	}
	return nil
}

func (e Entry) check() error {
	if err := CheckName(e.Name); err != nil {
		return err
	}
	if err := e.Node.Check(); err != nil {
		return fmt.Errorf("entry %q: %w", e.Name, err)
	}
	return nil
}
