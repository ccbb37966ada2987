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

func (t *tree) directory(name string, perm uint32, why Reason) error {
	return t.put(name, Entry{Header: newc.Header{Mode: newc.TypeDirectory | perm}, Reason: why})
}

func (t *tree) data(name string, perm uint32, data []byte, why Reason) error {
	return t.put(name, Entry{Header: newc.Header{Mode: newc.TypeRegular | perm, Size: int64(len(data))}, Data: data, Reason: why})
}

// file adds a file of this machine.
func (t *tree) file(name string, perm uint32, source string, why Reason) error {
	st, err := os.Stat(source)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", source)
	}
	if why.Origin == "" {
		why.Origin = source
	}
	return t.put(name, Entry{Header: newc.Header{Mode: newc.TypeRegular | perm, Size: st.Size()}, File: source, Reason: why})
}

func (t *tree) symlink(name, target string, why Reason) error {
	return t.put(name, Entry{Header: newc.Header{Mode: newc.TypeSymlink | 0o777, Size: int64(len(target))}, Data: []byte(target), Reason: why})
}

func (t *tree) device(name string, mode, major, minor uint32, why Reason) error {
	return t.put(name, Entry{Header: newc.Header{Mode: mode, RDevMajor: major, RDevMinor: minor}, Reason: why})
}

// own sets whom the entry belongs to.
func (t *tree) own(name string, uid, gid uint32) {
	t.entries[name].UID, t.entries[name].GID = uid, gid
}

// list adds the directories that are missing and returns all entries, each
// directory before what is in it.
func (t *tree) list() ([]Entry, error) {
	for _, name := range t.names() {
		for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
			if parent := t.entries[dir]; parent == nil {
				why := t.entries[name].Reason
				if err := t.directory(dir, 0o755, Reason{Why: "directory of " + name, By: name, At: why.At}); err != nil {
					return nil, err
				}
			} else if !parent.IsDir() {
				return nil, fmt.Errorf("%s: %s, which is not a directory, is above it", name, dir)
			}
		}
	}
	var out []Entry
	for i, name := range t.names() {
		e := t.entries[name]
		e.Ino = uint32(i) + 1
		e.NLink = 1
		if e.IsDir() {
			e.NLink = 2
		}
		out = append(out, *e)
	}
	joinLinks(out)
	return out, nil
}

// joinLinks makes one file of the names that have the same link: the first has
// the data.
func joinLinks(entries []Entry) {
	names := map[string][]int{}
	for i, e := range entries {
		if e.link != "" {
			names[e.link] = append(names[e.link], i)
		}
	}
	for _, at := range names {
		if len(at) < 2 {
			continue
		}
		first := &entries[at[0]]
		for _, i := range at {
			e := &entries[i]
			e.NLink, e.Ino = uint32(len(at)), first.Ino
			if e != first {
				e.linkTo, e.Size, e.Data, e.File = first.Name, 0, nil, ""
			}
		}
	}
}

// cut cuts the entries into segments of at most size bytes of data, but for
// files that are larger, and never between the names of one file, which the
// kernel only knows within an archive. 0 is one segment.
func cut(entries []Entry, size int64) []Segment {
	if size == 0 {
		return []Segment{{Entries: entries}}
	}
	last := map[uint32]int{} // of the names of an inode
	for i, e := range entries {
		last[e.Ino] = i
	}
	var out []Segment
	from, n, hold := 0, int64(0), 0
	for i, e := range entries {
		if n > 0 && n+e.Size > size && i > hold {
			out = append(out, Segment{Entries: entries[from:i]})
			from, n = i, 0
		}
		n += e.Size
		hold = max(hold, last[e.Ino])
	}
	return append(out, Segment{Entries: entries[from:]})
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
