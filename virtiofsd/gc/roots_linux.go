package gc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"storeboot/internal/storepath"
)

// RootsDir is the directory of an embedded store, whose directory "roots" has
// a symlink to a store path for each named root.
type RootsDir string

// Root is a named root.
type Root struct {
	Name string
	Path storepath.StorePath
}

func (d RootsDir) path(name string) string { return filepath.Join(string(d), "roots", name) }

// checkName says whether name can name a root. The rules are those for the name
// of a store path, which a file name never breaks, and no dot at the beginning:
// that is where what is being made is.
func checkName(name string) error {
	err := storepath.CheckName(name)
	if err == nil && name[0] == '.' {
		err = errors.New("a dot at the beginning is not allowed")
	}
	if err != nil {
		return fmt.Errorf("name of a root %q: %w", name, err)
	}
	return nil
}

// Add makes or replaces a root. It survives a power loss.
func (d RootsDir) Add(name string, p storepath.StorePath) error {
	if err := checkName(name); err != nil {
		return err
	}
	dir := d.path("")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return advise(err)
	}
	// A symlink cannot be made in the place of another: rename it there.
	temp, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return advise(err)
	}
	defer os.RemoveAll(temp)
	link := filepath.Join(temp, name)
	if err := os.Symlink(p.Absolute(), link); err != nil {
		return err
	}
	if err := os.Rename(link, d.path(name)); err != nil {
		return err
	}
	return errors.Join(syncDir(dir), syncDir(string(d)))
}

// Remove removes a root.
func (d RootsDir) Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := os.Remove(d.path(name)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no root %q: see them with --list-roots", name)
	} else if err != nil {
		return advise(err)
	}
	return syncDir(d.path(""))
}

// advise adds the way out to the error of a directory that cannot be written to.
func advise(err error) error {
	if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: make it writable", err)
	}
	return err
}

// List returns the roots by name. What is no root of ours there is an error, as
// nobody knows what it was to keep.
func (d RootsDir) List() ([]Root, error) {
	entries, err := os.ReadDir(d.path(""))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var roots []Root
	for _, e := range entries {
		if e.Name()[0] == '.' {
			continue
		}
		target, err := os.Readlink(d.path(e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed a moment ago
		}
		if err != nil {
			return nil, err
		}
		p, below, err := storepath.ParseAbsolute(target)
		if err != nil || below != "" {
			return nil, fmt.Errorf("%s is a symlink to %q, which is no store path: remove it", d.path(e.Name()), target)
		}
		roots = append(roots, Root{e.Name(), p})
	}
	return roots, nil
}

// syncDir writes the names in a directory to the disk.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
