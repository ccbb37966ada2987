package image

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"storeboot/internal/newc"
)

// tree collects the entries of a segment by their absolute paths.
type tree struct{ entries map[string]*Entry }

func newTree() *tree { return &tree{entries: map[string]*Entry{}} }

// put adds an entry. A directory may be put where one is already, and then
// sets its mode; anything else is an error.
func (t *tree) put(name string, e Entry) error {
	e.Name = strings.TrimPrefix(name, "/")
	old := t.entries[name]
	if old != nil && !(old.IsDir() && e.IsDir()) {
		return fmt.Errorf("%s: is there twice, for %s and for %s", name, old.Why, e.Why)
	}
	t.entries[name] = &e
	return nil
}

func (t *tree) directory(name string, perm uint32, why string) error {
	return t.put(name, Entry{Header: newc.Header{Mode: newc.TypeDirectory | perm}, Why: why})
}

func (t *tree) data(name string, perm uint32, data []byte, why string) error {
	return t.put(name, Entry{Header: newc.Header{Mode: newc.TypeRegular | perm, Size: int64(len(data))}, Data: data, Why: why})
}

// file adds a file of this machine.
func (t *tree) file(name string, perm uint32, source, why string) error {
	st, err := os.Stat(source)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", source)
	}
	return t.put(name, Entry{Header: newc.Header{Mode: newc.TypeRegular | perm, Size: st.Size()}, File: source, Why: why})
}

func (t *tree) symlink(name, target, why string) error {
	return t.put(name, Entry{Header: newc.Header{Mode: newc.TypeSymlink | 0o777, Size: int64(len(target))}, Data: []byte(target), Why: why})
}

func (t *tree) device(name string, perm, major, minor uint32, why string) error {
	return t.put(name, Entry{Header: newc.Header{Mode: newc.TypeChar | perm, RDevMajor: major, RDevMinor: minor}, Why: why})
}

// segment adds the directories that are missing and returns all entries, each
// directory before what is in it.
func (t *tree) segment() (Segment, error) {
	for _, name := range t.names() {
		for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
			if parent := t.entries[dir]; parent == nil {
				if err := t.directory(dir, 0o755, t.entries[name].Why); err != nil {
					return Segment{}, err
				}
			} else if !parent.IsDir() {
				return Segment{}, fmt.Errorf("%s: %s, which is not a directory, is above it", name, dir)
			}
		}
	}
	var s Segment
	for i, name := range t.names() {
		e := t.entries[name]
		e.Ino = uint32(i) + 1
		e.NLink = 1
		if e.IsDir() {
			e.NLink = 2
		}
		s.Entries = append(s.Entries, *e)
	}
	return s, nil
}

// names are all paths, in the order of their elements.
func (t *tree) names() []string {
	return slices.SortedFunc(maps.Keys(t.entries), func(a, b string) int {
		return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
	})
}

// find resolves a path in the tree through symbolic links; nil is nothing.
func (t *tree) find(name string) *Entry {
	const most = 40 // as the kernel follows
	rest, at := strings.TrimPrefix(name, "/"), "/"
	for links := 0; links <= most; {
		var step string
		step, rest, _ = strings.Cut(rest, "/")
		at = path.Join(at, step)
		e := t.entries[at]
		if e != nil && e.Type() == newc.TypeSymlink {
			links++
			target := string(e.Data)
			if !path.IsAbs(target) {
				target = path.Join(path.Dir(at), target)
			}
			rest, at = strings.TrimPrefix(path.Join(target, rest), "/"), "/"
			continue
		}
		if rest == "" {
			return e
		}
	}
	return nil
}
