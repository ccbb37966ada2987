package elfdep

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// ErrNotFound is wrapped by the error of a program or library that is nowhere.
var ErrNotFound = errors.New("not found")

// maxFiles is how many files one program may need; large desktop programs need
// a few hundred.
const maxFiles = 4096

// Item is a file or a symbolic link that the image needs.
type Item struct {
	Path   string // absolute, in the image
	Source string // the file on this machine; "" for a link
	Target string // of a link
	Why    string // "library libc.so.6", "interpreter", "program"
	By     string // the Path of the item that needs it; "" if it was asked for
}

// Priority is how much a program wants what it names in .note.dlopen.
type Priority int

// The priorities of the notes; NoDlopen passes over all of them.
const (
	NoDlopen Priority = iota
	Required
	Recommended
	Suggested
)

// Resolver collects what programs need. It is not for concurrent use.
type Resolver struct {
	root   root
	cache  map[string][]string // of ld.so.cache, paths by name
	conf   []string            // directories of ld.so.conf, where there is no cache
	items  []Item
	places map[string]int    // index of the item by path
	first  map[string]string // the first path of a file of the root
	useLdC bool
}

// New returns a resolver for programs of the system whose root directory is
// dir; "" is this one's.
func New(dir string) (*Resolver, error) {
	r := &Resolver{root: root{dir: strings.TrimRight(dir, "/")}, places: map[string]int{}, first: map[string]string{}}
	var err error
	if r.cache, err = readCache(r.root); errors.Is(err, fs.ErrNotExist) {
		r.conf, err = readConf(r.root)
	}
	if err != nil {
		return nil, fmt.Errorf("find libraries: %w", err)
	}
	return r, nil
}

// Items are all that the programs need that were added so far, with them.
func (r *Resolver) Items() []Item { return r.items }

// programDirs are where a program is looked for that is given by its name.
var programDirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// Find returns the path in the root of a program that is given by its name, or
// by a path, which then only has to be there. The error wraps [ErrNotFound].
func (r *Resolver) Find(name string) (string, error) {
	if strings.Contains(name, "/") {
		if _, err := r.root.regular(name); err != nil {
			return "", err
		}
		return name, nil
	}
	for _, dir := range programDirs {
		p := path.Join(dir, name)
		if _, err := r.root.regular(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("program %s: %w in %s", name, ErrNotFound, strings.Join(programDirs, ", "))
}

// Add adds the program at source in the root, or on this machine if outside is
// set, to be at place in the image, with all that it needs. Of the libraries
// that it says it may open later, those of at least the priority go in.
func (r *Resolver) Add(source, place string, outside bool, dlopen Priority) error {
	host := source
	if !outside {
		var err error
		if host, err = r.root.regular(source); err != nil {
			return err
		}
	}
	err := r.add(object{host: host, path: source, place: place}, Item{Path: place, Source: host, Why: "program"}, dlopen)
	if err != nil {
		return fmt.Errorf("program %s: %w", source, err)
	}
	return nil
}

// AddService adds the library of a service of nsswitch.conf(5), for programs
// like the one at place. The C library has some services in itself.
func (r *Resolver) AddService(name, place string) error {
	i, ok := r.places[place]
	if !ok {
		return fmt.Errorf("nss %s: no program at %s", name, place)
	}
	o, err := r.open(object{host: r.items[i].Source, path: place, place: place})
	if err != nil || o.static() {
		return err
	}
	err = r.library(o, "libnss_"+name+".so.2", "nss service "+name, Required)
	if errors.Is(err, ErrNotFound) && slices.Contains([]string{"files", "dns"}, name) {
		return nil // in libc.so.6 from glibc 2.34 on
	}
	return err
}

// put records an item, and says whether it is new.
func (r *Resolver) put(it Item) (bool, error) {
	if _, ok := r.places[it.Path]; ok {
		return false, nil
	}
	if len(r.items) >= maxFiles {
		return false, fmt.Errorf("needs more than %d files", maxFiles)
	}
	if at, ok := r.first[it.Source]; ok && it.Why != "program" {
		it.Source, it.Target = "", at
	} else if it.Source != "" {
		r.first[it.Source] = it.Path
	}
	r.places[it.Path] = len(r.items)
	r.items = append(r.items, it)
	return it.Target == "", nil
}

// add adds an object with all that it needs.
func (r *Resolver) add(o object, it Item, dlopen Priority) error {
	fresh, err := r.put(it)
	if err != nil || !fresh {
		return err
	}
	words, err := script(o.host)
	if err != nil {
		return err
	}
	if words != nil {
		return r.addScript(o, words, dlopen)
	}
	opened, err := r.open(o)
	if err != nil || opened == nil {
		return err
	}
	if opened.interp != "" {
		host, err := r.root.regular(opened.interp)
		if err != nil {
			return fmt.Errorf("interpreter: %w", err)
		}
		err = r.add(object{host: host, path: opened.interp, place: opened.interp}, Item{Path: opened.interp, Source: host, Why: "interpreter", By: it.Path}, NoDlopen)
		if err != nil {
			return err
		}
	}
	for _, name := range opened.needed {
		if err := r.library(opened, name, "library "+name, dlopen); err != nil {
			return err
		}
	}
	return r.addNotes(opened, dlopen)
}

// library adds a library that an object needs.
func (r *Resolver) library(o *object, name, why string, dlopen Priority) error {
	found, err := r.search(o, name)
	if err != nil {
		return err
	}
	found.loader = o
	err = r.add(*found, Item{Path: found.place, Source: found.host, Why: why, By: o.place}, dlopen)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !r.useLdC && found.cached {
		// The guest's loader has to find it as this machine's does.
		r.useLdC = true
		if host, err := r.root.regular(cachePath); err == nil {
			_, err := r.put(Item{Path: cachePath, Source: host, Why: "library directories", By: o.place})
			return err
		}
	}
	return nil
}

// addNotes adds what the object says it may open later. Only what is required
// has to be there.
func (r *Resolver) addNotes(o *object, least Priority) error {
	for _, n := range o.notes {
		if n.priority > least {
			continue
		}
		var err error
		for _, name := range n.names {
			if err = r.library(o, name, fmt.Sprintf("dlopen %s (%s)", name, n.about()), least); err == nil {
				break
			}
		}
		if err != nil && n.priority == Required {
			return fmt.Errorf("its note names a library that it requires: %w", err)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// addScript adds the interpreter of a script, and the program that env(1) is
// to find.
func (r *Resolver) addScript(o object, words []string, dlopen Priority) error {
	add := func(p string) error {
		host, err := r.root.regular(p)
		if err != nil {
			return fmt.Errorf("interpreter of the script: %w", err)
		}
		return r.add(object{host: host, path: p, place: p}, Item{Path: p, Source: host, Why: "interpreter of a script", By: o.place}, dlopen)
	}
	if err := add(words[0]); err != nil {
		return err
	}
	if path.Base(words[0]) != "env" {
		return nil
	}
	for _, w := range words[1:] {
		if strings.HasPrefix(w, "-") || strings.Contains(w, "=") {
			continue
		}
		p, err := r.Find(w)
		if err != nil {
			return fmt.Errorf("interpreter of the script: %w", err)
		}
		return add(p)
	}
	return nil
}
